//! Rules beyond the schema, for a devfile that was flattened (or has nothing to flatten).
//!
//! [`RuleSet::Library`](crate::RuleSet::Library) and [`RuleSet::Operator`](crate::RuleSet::Operator) are what the two
//! existing implementations check; [`RuleSet::Cluster`](crate::RuleSet::Cluster) is what both miss and an API server
//! or a container would refuse later.

mod cluster;
mod commands;
mod components;
mod operator;
mod projects;
mod uri;

use crate::code::Code;
use crate::diagnostic::{Reporter, Severity};
use crate::model::Devfile;
use crate::node::{Node, Trail};

pub(crate) use cluster::{is_port_name, path_escapes};
pub(crate) use uri::is_valid as is_valid_uri;

/// Which rules are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// What devfile/library checks.
    pub library: bool,
    /// What DevWorkspace Operator checks.
    pub operator: bool,
    /// What both miss.
    pub cluster: bool,
    /// Whether several commands of a kind without a default are an error, as they are for devfile/library.
    pub strict_defaults: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            library: true,
            operator: false,
            cluster: true,
            strict_defaults: false,
        }
    }
}

impl Rules {
    /// The library's rules alone, as the library has them.
    pub const LIBRARY: Self = Self {
        library: true,
        operator: false,
        cluster: false,
        strict_defaults: true,
    };

    /// The operator's rules alone.
    pub const OPERATOR: Self = Self {
        library: false,
        operator: true,
        cluster: false,
        strict_defaults: false,
    };
}

/// What every rule needs.
struct Check<'a, 'r, 's> {
    devfile: &'a Devfile,
    tree: &'a Node,
    rules: Rules,
    reporter: &'r mut Reporter<'s>,
}

impl Check<'_, '_, '_> {
    fn tell(&mut self, code: Code, trail: &Trail<'_>, message: String, hint: Option<String>) {
        self.tell_as(code, code.severity(), trail, message, hint);
    }

    fn tell_as(
        &mut self,
        code: Code,
        severity: Severity,
        trail: &Trail<'_>,
        message: String,
        hint: Option<String>,
    ) {
        let place = self.tree.place_of(trail);
        self.reporter
            .add_as(code, severity, place, trail, message, hint);
    }
}

/// Checks a content that fits its schema.
pub(crate) fn validate(devfile: &Devfile, tree: &Node, rules: Rules, reporter: &mut Reporter<'_>) {
    let mut check = Check {
        devfile,
        tree,
        rules,
        reporter,
    };
    if rules.library || rules.operator {
        components::validate(&mut check);
    }
    if rules.library {
        commands::validate(&mut check);
        projects::validate(&mut check);
    }
    if rules.operator {
        operator::validate(&mut check);
    }
    if rules.cluster {
        cluster::validate(&mut check);
    }
}
