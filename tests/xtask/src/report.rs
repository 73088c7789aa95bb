//! A run of several parts: each one timed, a summary at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use harness::step;

/// The parts that have run.
#[derive(Debug)]
pub(crate) struct Report {
    started: Instant,
    parts: Vec<(String, Duration, Option<String>)>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            parts: Vec::new(),
        }
    }

    /// Does one part. A failure is remembered, and the other parts go on: one run shows all that is wrong.
    /// Returns whether it went well.
    pub(crate) fn part(&mut self, name: &str, f: impl FnOnce() -> Result<()>) -> bool {
        let started = Instant::now();
        let failure = step::step(name, f).err().map(|error| format!("{error:#}"));
        let passed = failure.is_none();
        self.parts
            .push((name.to_owned(), started.elapsed(), failure));
        passed
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// When a part failed.
    #[expect(clippy::print_stdout, reason = "what the command is for")]
    pub(crate) fn end(self) -> Result<()> {
        println!("\nSummary");
        let mut failed = Vec::new();
        for (name, took, failure) in &self.parts {
            let mark = if failure.is_none() { "ok" } else { "FAILED" };
            println!("  {mark:6} {name:40} {:8.1} s", took.as_secs_f64());
            if let Some(why) = failure {
                failed.push(name.as_str());
                for line in why.lines() {
                    println!("         {line}");
                }
            }
        }
        println!(
            "  {:6} {:40} {:8.1} s",
            "",
            "all together",
            self.started.elapsed().as_secs_f64()
        );
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}
