//! The files of the corpus, the probes, and what was recorded for them.

use std::path::{Path, PathBuf};

use devfile::flatten::{Fetch, FetchError, FlattenOptions, Flattened, Reference, flatten};
use devfile::validate::Rules;

use crate::go;

/// One file, flattened or not.
pub(crate) struct Case {
    /// `probes/<name>` or the path below `devfiles`, with ` (alone)` if parents are not drawn in.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) flatten: bool,
    pub(crate) recorded: String,
}

impl Case {
    /// Our answer; the recorded verdicts are without the contents of uris.
    pub(crate) fn ours(&self, inline: bool) -> Flattened {
        flatten_file(&self.path, self.flatten, inline)
    }

    pub(crate) fn request(&self) -> go::Request {
        go::request(&self.path, self.flatten)
    }

    /// Whether the recorded answer is that a parent could not be reached.
    pub(crate) fn needs_network(&self) -> bool {
        self.recorded.starts_with("NEEDS-")
    }
}

/// Files of the machine, and nothing else.
struct Files;

impl Fetch for Files {
    fn fetch(&mut self, reference: &Reference) -> Result<String, FetchError> {
        match reference {
            Reference::Location(path) if reference.address().is_none() => {
                std::fs::read_to_string(path).map_err(|error| FetchError::new(error.to_string()))
            }
            Reference::Location(_) | Reference::Registry { .. } | Reference::Kubernetes { .. } => {
                Err(FetchError::new("tests reach no network"))
            }
        }
    }
}

/// Flattens by the library's rules.
pub(crate) fn flatten_file(path: &Path, imports: bool, inline_uris: bool) -> Flattened {
    let bytes = std::fs::read(path).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let options = FlattenOptions {
        imports,
        inline_uris,
        boolean_defaults: true,
        rules: Rules::LIBRARY,
        ..FlattenOptions::default()
    };
    flatten(path.to_str().unwrap(), &text, &options, &mut Files)
}

pub(crate) fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut cases = Vec::new();
    let index = std::fs::read_to_string(root.join("devfiles/INDEX.tsv")).unwrap();
    for line in index.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let path = root.join("devfiles").join(cells[0]);
        for (flatten, recorded) in [(false, cells[8]), (true, cells[9])] {
            cases.push(Case {
                name: format!("{}{}", cells[0], if flatten { "" } else { " (alone)" }),
                path: path.clone(),
                flatten,
                recorded: recorded.to_owned(),
            });
        }
    }
    let results = std::fs::read_to_string(root.join("probes/RESULTS.tsv")).unwrap();
    for line in results.lines().skip(1) {
        let (name, recorded) = line.split_once('\t').unwrap();
        cases.push(Case {
            name: format!("probes/{name}"),
            path: root.join("probes").join(name).join("devfile.yaml"),
            flatten: true,
            recorded: recorded.to_owned(),
        });
    }
    assert!(cases.len() >= 2 * 118 + 90, "{} cases", cases.len());
    cases
}

/// How our verdict differs from the recorded one.
pub(crate) fn compare_recorded(case: &Case, ours: &Flattened) -> Option<String> {
    let valid = !ours.has_errors();
    if case.needs_network() {
        let only_unreachable = ours
            .diagnostics
            .iter()
            .filter(|found| found.severity == devfile::Severity::Error)
            .all(|found| found.code == devfile::Code::ImportFailed);
        return (valid || !only_unreachable).then(|| {
            format!(
                "recorded {}, ours {}",
                case.recorded,
                crate::compare::verdict(ours)
            )
        });
    }
    let recorded = case.recorded.starts_with("OK");
    (valid != recorded).then(|| {
        format!(
            "recorded {}, ours {}",
            case.recorded,
            crate::compare::verdict(ours)
        )
    })
}
