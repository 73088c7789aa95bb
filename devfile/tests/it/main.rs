//! What the library and the command line do, seen from outside.

#![expect(clippy::unwrap_used, reason = "tests")]

mod cli;
mod cloning;
mod convert;
mod corpus;
mod decisions;
mod diagnostics;
mod editor;
mod flattening;
mod limits;
mod notes;
mod operator;
mod render;
mod reports;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use devfile::flatten::{Fetch, FetchError, FlattenOptions, Flattened, Reference, flatten};
use devfile::validate::Rules;

/// Texts by their location.
#[derive(Debug, Default)]
struct Texts(BTreeMap<String, String>);

impl Fetch for Texts {
    fn fetch(&mut self, reference: &Reference) -> Result<String, FetchError> {
        self.0
            .get(&reference.to_string())
            .cloned()
            .ok_or_else(|| FetchError::new("it is not there"))
    }
}

fn texts(all: &[(&str, &str)]) -> Texts {
    Texts(
        all.iter()
            .map(|(location, text)| ((*location).to_owned(), (*text).to_owned()))
            .collect(),
    )
}

fn read(text: &str) -> Flattened {
    read_with(text, &FlattenOptions::default(), &[])
}

fn read_with(text: &str, options: &FlattenOptions, others: &[(&str, &str)]) -> Flattened {
    flatten("/w/devfile.yaml", text, options, &mut texts(others))
}

fn library() -> FlattenOptions {
    FlattenOptions {
        rules: Rules::LIBRARY,
        ..FlattenOptions::default()
    }
}

/// Code, path, line and column of all diagnostics.
fn told(flattened: &Flattened) -> Vec<String> {
    flattened
        .diagnostics
        .iter()
        .map(|found| {
            format!(
                "{} {} {}:{}",
                found.code.name(),
                found.path,
                found.line,
                found.column
            )
        })
        .collect()
}

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}
