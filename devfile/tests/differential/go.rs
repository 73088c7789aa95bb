//! The comparison program.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) struct Library(PathBuf);

#[derive(Serialize)]
pub(crate) struct Request {
    path: PathBuf,
    flatten: bool,
    inline: bool,
}

pub(crate) fn request(path: &Path, flatten: bool) -> Request {
    Request {
        path: path.to_owned(),
        flatten,
        inline: true,
    }
}

#[derive(Deserialize)]
pub(crate) struct Answer {
    pub(crate) ok: bool,
    #[serde(default)]
    pub(crate) error: String,
    #[serde(default)]
    pub(crate) panic: bool,
    #[serde(default)]
    pub(crate) flattened: Value,
    #[serde(default)]
    warnings: Value,
}

impl Answer {
    pub(crate) fn warned_variables(&self) -> BTreeSet<String> {
        let Value::Object(kinds) = &self.warnings else {
            return BTreeSet::new();
        };
        kinds
            .values()
            .filter_map(Value::as_object)
            .flat_map(|elements| elements.values())
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(|key| key.as_str().map(str::to_owned))
            .collect()
    }
}

impl Library {
    /// The program named by the environment, else built from its source; none without Go or its modules.
    pub(crate) fn build() -> Option<Self> {
        if let Some(path) = std::env::var_os("DEVFILE_GO") {
            return Some(Self(path.into()));
        }
        let go = ["go", "/usr/local/go/bin/go"]
            .into_iter()
            .find(|go| Command::new(go).arg("version").output().is_ok())?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/devfile-go");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("devfile-go");
        let status = Command::new(go)
            .args(["build", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(source)
            .status()
            .unwrap();
        // Its modules may be out of reach; whether that is a failure is for the caller.
        status.success().then_some(Self(program))
    }

    pub(crate) fn ask(&self, requests: &[Request]) -> Vec<Answer> {
        let mut child = Command::new(&self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let lines: String = requests
            .iter()
            .map(|request| serde_json::to_string(request).unwrap() + "\n")
            .collect();
        // Written beside the reading, else both would wait for room in a pipe.
        let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success());
        let answers: Vec<Answer> = output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(answers.len(), requests.len());
        answers
    }
}
