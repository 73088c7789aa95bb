#![doc = include_str!("../README.md")]
//!
#![doc = include_str!("../DECISIONS.md")]

pub mod code;
pub mod convert;
pub mod diagnostic;
pub mod document;
#[cfg(test)]
mod fixtures;
pub mod flatten;
pub mod limits;
pub mod model;
pub mod node;

pub mod render;
pub mod schema;
pub mod source;
pub mod text;
pub mod validate;
mod variables;
mod yaml;

pub use ::model::quantity;
pub use code::Code;
pub use diagnostic::{Diagnostic, RuleSet, Severity};
pub use flatten::{FlattenOptions, Flattened, flatten};
pub use text::flatten_bytes;
pub use yaml::yaml_text;
