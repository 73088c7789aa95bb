//! Parse and validate, without flattening, of the corpus, beside the Go library in the same run; and how time and memory
//! grow with the input.
//!
//! `cargo run --profile bench-binaries -p devfile --example bench -- --json --go PROGRAM`, where PROGRAM is
//! `tests/devfile-go` as built by Go. Without it the Go library is not measured.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use devfile::flatten::{FlattenOptions, NoFetch, flatten};
use devfile::validate::Rules;
use serde_json::{Value, json};

/// Rounds over the corpus; the shortest counts, on both sides.
const ROUNDS: usize = 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1).cloned()
    };
    if let Some(factor) = after("--grow") {
        println!("{}", grow(factor.parse().unwrap()));
        return;
    }
    let files = corpus();
    let ours = (0..ROUNDS).map(|_| round(&files)).fold(f64::MAX, f64::min);
    let theirs = after("--go").map(|program| {
        (0..ROUNDS)
            .map(|_| go(&program, &files))
            .fold(f64::MAX, f64::min)
    });
    let growth: Vec<Value> = [1, 10, 100]
        .into_iter()
        .map(|factor: usize| {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--grow", &factor.to_string()])
                .output()
                .unwrap();
            serde_json::from_slice(&output.stdout).unwrap()
        })
        .collect();
    let result = json!({
        "files": files.len(),
        "ours_ms": ours,
        "go_library_ms": theirs,
        "ratio": theirs.map(|theirs| theirs / ours),
        "growth": growth,
    });
    if arguments.iter().any(|argument| argument == "--json") {
        println!("{result}");
    } else {
        println!("{}", serde_json::to_string_pretty(&result).unwrap());
    }
}

fn corpus() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/devfiles");
    let index = std::fs::read_to_string(root.join("INDEX.tsv")).unwrap();
    index
        .lines()
        .skip(1)
        .map(|line| root.join(line.split('\t').next().unwrap()))
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

fn options() -> FlattenOptions {
    FlattenOptions {
        imports: false,
        inline_uris: false,
        rules: Rules::LIBRARY,
        ..FlattenOptions::default()
    }
}

fn round(files: &[(PathBuf, String)]) -> f64 {
    let options = options();
    let start = Instant::now();
    for (path, _) in files {
        // Both sides read the file.
        let text = std::fs::read_to_string(path).unwrap();
        let found = flatten(path.to_str().unwrap(), &text, &options, &mut NoFetch);
        std::hint::black_box(found);
    }
    start.elapsed().as_secs_f64() * 1000.0
}

fn go(program: &str, files: &[(PathBuf, String)]) -> f64 {
    let mut child = Command::new(program)
        .args(["-bench", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = files
        .iter()
        .map(|(path, _)| json!({"path": path}).to_string() + "\n")
        .collect();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["milliseconds"].as_f64().unwrap()
}

/// One devfile of `factor` times 40 components and 40 commands: time of the best round, and the most memory.
fn grow(factor: usize) -> Value {
    let mut text = String::from("schemaVersion: 2.2.0\nvariables: {v: x}\ncomponents:\n");
    for at in 0..40 * factor {
        text.push_str(&format!("- name: c{at}\n  container:\n    image: 'i:{{{{v}}}}'\n    memoryLimit: 1Gi\n    env: [{{name: A, value: '{{{{v}}}}'}}]\n    endpoints: [{{name: e{at}, targetPort: {}}}]\n", at + 1));
    }
    text.push_str("commands:\n");
    for at in 0..40 * factor {
        text.push_str(&format!(
            "- {{id: k{at}, exec: {{component: c{at}, commandLine: x}}}}\n"
        ));
    }
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let found = flatten("/w/devfile.yaml", &text, &options(), &mut NoFetch);
        assert!(!found.has_errors(), "{:?}", found.diagnostics.first());
        best = best.min(start.elapsed().as_secs_f64() * 1000.0);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak_kib: Option<u64> = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    json!({"factor": factor, "bytes": text.len(), "ms": best, "peak_kib": peak_kib})
}
