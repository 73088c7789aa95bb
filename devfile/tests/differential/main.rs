//! Our answers beside those of devfile/library v2.4.0: recorded ones for every file of the corpus and every probe, and,
//! where Go is installed, those it gives in the same run, also for generated inputs.
//!
//! `DEVFILE_GENERATED=10000` makes the generated part long. `DEVFILE_GO` names a built comparison program; without it
//! `tests/devfile-go` is built. In CI a missing Go is a failure.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that tells its count"
)]

mod compare;
mod corpus;
mod decisions;
mod generate;
mod go;

use std::collections::BTreeSet;
use std::process::ExitCode;

use compare::{Difference, Tally};
use decisions::Decisions;
use go::Library;

/// How many inputs are generated unless the environment says otherwise.
const GENERATED: usize = 500;

fn main() -> ExitCode {
    // Test runners ask for the list of tests.
    if std::env::args().any(|argument| argument == "--list") {
        println!("differential: test");
        return ExitCode::SUCCESS;
    }
    let decisions = Decisions::read();
    let library = Library::build();
    let cases = corpus::cases();
    let mut tally = Tally::default();
    let mut generated_fits = true;

    for case in &cases {
        let ours = case.ours(false);
        tally.add(case, corpus::compare_recorded(case, &ours), &decisions);
    }
    if let Some(library) = &library {
        let requests: Vec<_> = cases.iter().map(corpus::Case::request).collect();
        let answers = library.ask(&requests);
        for (case, theirs) in cases.iter().zip(&answers) {
            let ours = case.ours(true);
            tally.add(case, compare::run(case, &ours, theirs), &decisions);
        }
        generated_fits = generated(library);
    } else {
        println!("the Go program cannot be built: compared with recorded answers only");
        assert!(
            std::env::var_os("CI").is_none(),
            "CI compares with the Go library itself"
        );
    }

    let unused: BTreeSet<&str> = decisions
        .cases()
        .filter(|case| !tally.decided(case))
        .collect();
    for case in &unused {
        println!("{case}: a decision names it, but the answers agree");
    }
    for Difference { case, text } in &tally.otherwise {
        println!("{case}: {text}");
    }
    let (agree, decided, otherwise) = tally.count();
    println!(
        "devfile corpus: {agree} agree, {decided} differ by decision, {otherwise} differ otherwise"
    );
    if otherwise == 0 && unused.is_empty() && generated_fits {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether all generated inputs get the same answer.
fn generated(library: &Library) -> bool {
    let count = std::env::var("DEVFILE_GENERATED")
        .ok()
        .map_or(GENERATED, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let inputs = generate::write(folder.path(), count);
    let requests: Vec<_> = inputs.iter().map(|path| go::request(path, true)).collect();
    let answers = library.ask(&requests);
    let mut valid = 0;
    let mut panics = 0;
    let mut different = Vec::new();
    for (path, theirs) in inputs.iter().zip(&answers) {
        let ours = corpus::flatten_file(path, true, true);
        valid += usize::from(theirs.ok);
        // A crash is no answer; the decision attribute-overrides has the only one that is known.
        if theirs.panic {
            panics += 1;
            continue;
        }
        if let Some(text) = compare::difference(&ours, theirs) {
            different.push((path, text));
        }
    }
    for (path, text) in different.iter().take(5) {
        println!("{text}\n{}", std::fs::read_to_string(path).unwrap());
        let parent = path.with_file_name("p.yaml");
        if let Ok(parent) = std::fs::read_to_string(parent) {
            println!("--- p.yaml\n{parent}");
        }
    }
    println!(
        "devfile generated: {count} inputs, {valid} of them valid, {panics} crash the Go library, {} differ",
        different.len()
    );
    different.is_empty()
}
