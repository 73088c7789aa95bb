//! Devfiles 2.0.0 to 2.3.0 and DevWorkspace templates.
//!
//! The crate is pure: no network, no clock, no async. Fetching parents is behind [`flatten::Fetch`].

pub mod code;
pub mod diagnostic;
pub mod document;
#[cfg(test)]
mod fixtures;
pub mod flatten;
pub mod limits;
pub mod model;
pub mod node;
pub mod quantity;
pub mod render;
pub mod schema;
pub mod source;
pub mod validate;
mod variables;
mod yaml;

pub use code::Code;
pub use diagnostic::{Diagnostic, RuleSet, Severity};
pub use flatten::{FlattenOptions, Flattened, flatten};
pub use yaml::yaml_text;
