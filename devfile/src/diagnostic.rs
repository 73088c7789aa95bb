//! What is told to people and programs about a devfile.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::code::Code;
use crate::limits::MAX_DIAGNOSTICS;
use crate::node::Trail;
use crate::source::{Place, Sources};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot be used so.
    Error,
    /// It can be used, but probably does not do what was meant.
    Warning,
}

/// Who demands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleSet {
    /// The text itself and the published schema of its version.
    Schema,
    /// What devfile/library checks after flattening.
    Library,
    /// What DevWorkspace Operator checks.
    Operator,
    /// What both miss and the cluster would refuse later.
    Cluster,
}

/// One thing to know about a devfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Its stable name; `devfile explain` tells more.
    #[serde(serialize_with = "code_name")]
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// Who demands it.
    pub rules: RuleSet,
    /// What is wrong.
    pub message: String,
    /// Which value, as `components[0].container.image`.
    pub path: String,
    /// The name of the text it is written in: the devfile, or one of its parents or plugins.
    pub document: String,
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// The line with a caret below the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn code_name<S: Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.name())
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(
            f,
            "{}:{}:{}: {severity}[{}]: ",
            self.document,
            self.line,
            self.column,
            self.code.name()
        )?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let Some(excerpt) = &self.excerpt {
            for line in excerpt.lines() {
                write!(f, "\n  {line}")?;
            }
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Collects diagnostics: all of them, up to a limit, then only their number.
#[derive(Debug)]
pub struct Reporter<'a> {
    sources: &'a Sources,
    found: Vec<Diagnostic>,
    left_off: usize,
    left_off_errors: usize,
}

impl<'a> Reporter<'a> {
    /// A collector over these texts.
    #[must_use]
    pub fn new(sources: &'a Sources) -> Self {
        Self {
            sources,
            found: Vec::new(),
            left_off: 0,
            left_off_errors: 0,
        }
    }

    /// The texts.
    #[must_use]
    pub fn sources(&self) -> &'a Sources {
        self.sources
    }

    /// Adds one with the severity and rule set its code has.
    pub fn add(
        &mut self,
        code: Code,
        place: Place,
        trail: &Trail<'_>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.add_as(code, code.severity(), place, trail, message, hint);
    }

    /// Adds one with a severity of its own.
    pub fn add_as(
        &mut self,
        code: Code,
        severity: Severity,
        place: Place,
        trail: &Trail<'_>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        if self.found.len() >= MAX_DIAGNOSTICS {
            self.left_off += 1;
            self.left_off_errors += usize::from(severity == Severity::Error);
            return;
        }
        self.found.push(Diagnostic {
            code,
            severity,
            rules: code.rules(),
            message: message.into(),
            path: trail.to_string(),
            document: self.sources.name(place.document).to_owned(),
            line: place.line.max(1),
            column: place.column.max(1),
            excerpt: self.sources.excerpt(place),
            hint,
        });
    }

    /// Whether an error was added.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.left_off_errors > 0
            || self
                .found
                .iter()
                .any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Whether every error that was added has this code.
    pub(crate) fn has_no_errors_but(&self, code: Code) -> bool {
        let is_other = |it: &Diagnostic| it.severity == Severity::Error && it.code != code;
        !self.found.iter().any(is_other)
    }

    /// All that was found, in the order of the text.
    #[must_use]
    pub fn finish(self) -> Vec<Diagnostic> {
        let mut found = self.found;
        if let (true, Some(last)) = (self.left_off > 0, found.last()) {
            let mut rest = last.clone();
            rest.code = Code::TooManyDiagnostics;
            rest.severity = if self.left_off_errors > 0 {
                Severity::Error
            } else {
                Severity::Warning
            };
            rest.rules = Code::TooManyDiagnostics.rules();
            rest.message = format!("{} more are not shown", self.left_off);
            rest.path = String::new();
            rest.excerpt = None;
            rest.hint = None;
            found.push(rest);
        }
        found
    }
}

/// Sorts by severity-independent reading order: document in the order given, line, column.
pub fn sort_by_place(diagnostics: &mut [Diagnostic], sources: &Sources) {
    let rank = |name: &str| {
        (0..)
            .map_while(|number| sources.get(number))
            .position(|source| source.name() == name)
    };
    diagnostics.sort_by(|a, b| {
        (a.code == Code::TooManyDiagnostics)
            .cmp(&(b.code == Code::TooManyDiagnostics))
            .then_with(|| {
                let key = |d: &Diagnostic| (rank(&d.document), d.line, d.column);
                key(a).cmp(&key(b))
            })
    });
}

/// Whether any of them is an error.
#[must_use]
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Error)
}
