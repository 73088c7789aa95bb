//! How much one devfile may be. Each limit has an error of its own.

/// Bytes of one document.
pub const MAX_DOCUMENT_BYTES: usize = 3 * 1024 * 1024;

/// How deep lists and mappings may stand in one another. The deepest place the standard itself has is below 20;
/// attributes hold Kubernetes objects, which need about as much again.
pub const MAX_DEPTH: usize = 64;

/// Values in one document, counted after aliases are followed.
pub const MAX_VALUES: usize = 250_000;

/// Values that aliases may add to one document.
pub const MAX_ALIAS_VALUES: usize = 20_000;

/// Bytes of text that aliases may add to one document.
pub const MAX_ALIAS_BYTES: usize = 4 * 1024 * 1024;

/// Components, commands, projects, starter projects and dependent projects, each.
pub const MAX_ELEMENTS: usize = 10_000;

/// Problems that are told at once; more are counted.
pub const MAX_DIAGNOSTICS: usize = 200;

/// Parents and plugins that one devfile may draw in, over all levels.
pub const MAX_IMPORTS: usize = 64;

/// How far parents of parents may go.
pub const MAX_IMPORT_DEPTH: usize = 16;

/// Bytes of one text after variables are put in.
pub const MAX_SUBSTITUTED_BYTES: usize = 1024 * 1024;

/// Bytes that all texts may gain by variables.
pub const MAX_SUBSTITUTION_GROWTH: usize = 8 * 1024 * 1024;
