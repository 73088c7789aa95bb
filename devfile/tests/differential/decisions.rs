//! The table of decisions in the crate's docs, which names every case that may differ.

use std::collections::BTreeMap;

const TEXT: &str = include_str!("../../DECISIONS.md");

pub(crate) struct Decisions(BTreeMap<String, String>);

impl Decisions {
    /// Reads the rows `| name | library | here | why | cases |`; cases are in backticks.
    pub(crate) fn read() -> Self {
        let mut by_case = BTreeMap::new();
        for line in TEXT.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let name = cells[0].trim_matches('`');
            let cases = cells.last().unwrap();
            for case in cases.split('`').skip(1).step_by(2) {
                by_case.insert(case.to_owned(), name.to_owned());
            }
        }
        Self(by_case)
    }

    pub(crate) fn of(&self, case: &str) -> Option<&str> {
        self.0.get(case).map(String::as_str)
    }

    pub(crate) fn cases(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
