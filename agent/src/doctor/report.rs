//! What was found, for people and for programs.

use serde_json::{Value, json};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, or may; somebody should know.
    Warning,
    /// It does not work.
    Failed,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warn",
            Self::Failed => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Which.
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do about it; empty where there is nothing to do.
    pub advice: String,
}

impl Check {
    /// As it should be.
    pub(super) fn ok(name: &'static str, seen: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Ok,
            seen: seen.into(),
            advice: String::new(),
        }
    }

    /// Somebody should know.
    pub(super) fn warning(
        name: &'static str,
        seen: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            name,
            verdict: Verdict::Warning,
            seen: seen.into(),
            advice: advice.into(),
        }
    }

    /// It does not work.
    pub(super) fn failed(
        name: &'static str,
        seen: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            name,
            verdict: Verdict::Failed,
            seen: seen.into(),
            advice: advice.into(),
        }
    }
}

/// All checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report(Vec<Check>);

impl Report {
    pub(super) fn of(checks: Vec<Check>) -> Self {
        Self(checks)
    }

    /// The checks, in the order in which one thing rests on the others.
    pub fn checks(&self) -> &[Check] {
        &self.0
    }

    /// Whether something does not work.
    pub fn has_failed(&self) -> bool {
        self.0.iter().any(|it| it.verdict == Verdict::Failed)
    }

    /// One check a line, and below those that are not as they should be what to do.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Check {
            name,
            verdict,
            seen,
            advice,
        } in &self.0
        {
            text += &format!("{:<4}  {name:<16} {seen}\n", verdict.word());
            if !advice.is_empty() {
                text += &format!("      {:16} -> {advice}\n", "");
            }
        }
        text
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let checks = self.0.iter().map(|check| {
            json!({
                "name": check.name, "verdict": check.verdict.word().to_lowercase(),
                "seen": check.seen, "advice": check.advice,
            })
        });
        json!({ "failed": self.has_failed(), "checks": checks.collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_stands_out_and_says_what_to_do() {
        let fine = Check::ok("address", "grpcs://kas:443");
        let report = Report::of(vec![
            fine.clone(),
            Check::failed("token", "refused", "make a new one"),
        ]);
        assert_eq!(
            report.text(),
            "ok    address          grpcs://kas:443\n\
             FAIL  token            refused\n                       -> make a new one\n"
        );
        assert!(report.has_failed() && !Report::of(vec![fine]).has_failed());
        assert_eq!(report.json()["checks"][1]["verdict"], "fail");
        assert_eq!(report.json()["failed"], true);
    }
}
