//! One text to one checked document: its form, its version, its tree.

use crate::code::Code;
use crate::diagnostic::{Diagnostic, Reporter, Severity};
use crate::model::Devfile;
use crate::node::{Entry, Node, Trail, Value};
use crate::schema::{self, Version};
use crate::yaml;

/// The group and version of DevWorkspaces and their templates.
pub const API_VERSION: &str = "workspace.devfile.io/v1alpha2";

/// Which of the three forms a document has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A devfile with its `schemaVersion`.
    Devfile,
    /// A `DevWorkspaceTemplate` object: its content is `spec`.
    Template,
    /// A `DevWorkspace` object: its content is `spec.template`.
    DevWorkspace,
}

/// A document that fits its schema.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its form.
    pub form: Form,
    /// Its version; for the Kubernetes forms the newest.
    pub version: Version,
    /// Its number in the sources.
    pub number: u32,
    /// All of it.
    pub root: Node,
}

impl Document {
    /// The part with components, commands and so on.
    #[must_use]
    pub fn content(&self) -> &Node {
        let spec = || self.root.get("spec").unwrap_or(&self.root);
        match self.form {
            Form::Devfile => &self.root,
            Form::Template => spec(),
            Form::DevWorkspace => spec().get("template").unwrap_or(&self.root),
        }
    }

    /// The same, taken out. Contributions of a DevWorkspace become plugin components in front, as the operator
    /// treats them.
    #[must_use]
    pub fn into_content(self) -> Node {
        let content = self.content().clone();
        if self.form != Form::DevWorkspace {
            return content;
        }
        let contributions = self
            .root
            .get("spec")
            .map_or(&[][..], |spec| spec.items_at("contributions"));
        let mut content = content;
        let plugins: Vec<Node> = contributions.iter().map(contribution).collect();
        if !plugins.is_empty() {
            let place = plugins[0].place;
            let mut components = plugins;
            components.extend(content.items_at("components").to_vec());
            content.set("components", Node::new(place, Value::List(components)));
        }
        content
    }
}

fn contribution(node: &Node) -> Node {
    let mut component = Node::new(node.place, Value::Mapping(Vec::new()));
    let mut plugin = node.clone();
    for key in ["name", "attributes"] {
        if let Some(value) = plugin.remove(key) {
            component.set(key, value);
        }
    }
    component.set("plugin", plugin);
    component
}

/// Reads and checks one text. `None` when it cannot be used; why is in the reporter.
pub(crate) fn read(number: u32, reporter: &mut Reporter<'_>) -> Option<Document> {
    checked(number, reporter).filter(|_| !reporter.has_errors())
}

/// The same, but also gives a document whose mistakes hide no others, with quotes where they are missing: what else is
/// wrong can then be told at once.
pub(crate) fn read_or_mend(number: u32, reporter: &mut Reporter<'_>) -> Option<Document> {
    let mut document = checked(number, reporter)?;
    if reporter.has_errors() {
        let sources = reporter.sources();
        let (schema, content) = match document.form {
            Form::Devfile => (document.version.schema(), Some(&mut document.root)),
            Form::DevWorkspace => (schema::dev_workspace(), Some(&mut document.root)),
            Form::Template => (schema::template(), document.root.get_mut("spec")),
        };
        let content = content?;
        schema::mend(schema, content, sources);
        let mut rest = Reporter::new(sources);
        schema::check(schema, content, &Trail::ROOT, &mut rest);
        if !rest.finish().iter().all(hides_nothing) {
            return None;
        }
    }
    Some(document)
}

/// Whether a mistake against the schema leaves the meaning of all else as it is. A field that is unknown at the top may
/// be a misspelt list of components or commands, which others would then not find.
fn hides_nothing(found: &Diagnostic) -> bool {
    match found.code {
        Code::PatternMismatch | Code::TextTooLong | Code::RepeatedItem => true,
        Code::UnknownField => found.path.contains(['.', '[']),
        _ => found.severity == Severity::Warning,
    }
}

/// Tells of the fields beside the template of a DevWorkspace that say something else than is done without them.
fn beside_template(root: &Node, reporter: &mut Reporter<'_>) {
    let Some(spec) = root.get("spec") else {
        return;
    };
    let is_default =
        |entry: &Entry| entry.key == "started" && entry.node.value != Value::Bool(false);
    for entry in ["started", "routingClass"]
        .iter()
        .filter_map(|key| spec.entry(key))
    {
        if !is_default(entry) {
            reporter.add(
                Code::WorkspaceFieldUnused,
                entry.place,
                &Trail::ROOT.key("spec").key(&entry.key),
                format!("{} is not part of what is flattened", entry.key),
                None,
            );
        }
    }
}

fn checked(number: u32, reporter: &mut Reporter<'_>) -> Option<Document> {
    let root = yaml::read(number, reporter)?;
    if !reporter.has_no_errors_but(Code::DuplicateKey) {
        return None;
    }
    let (form, version) = identify(&root, reporter)?;
    let trail = Trail::ROOT;
    match form {
        Form::Devfile => schema::check(version.schema(), &root, &trail, reporter),
        Form::DevWorkspace => {
            schema::check(schema::dev_workspace(), &root, &trail, reporter);
            beside_template(&root, reporter);
        }
        Form::Template => match root.get("spec") {
            Some(spec) => schema::check(schema::template(), spec, &trail.key("spec"), reporter),
            None => reporter.add(
                Code::MissingField,
                root.place,
                &trail,
                "spec is missing",
                None,
            ),
        },
    }
    Some(Document {
        form,
        version,
        number,
        root,
    })
}

fn identify(root: &Node, reporter: &mut Reporter<'_>) -> Option<(Form, Version)> {
    let trail = Trail::ROOT;
    if let (Some(kind), None) = (root.text_at("kind"), root.get("schemaVersion")) {
        let api_version = root.text_at("apiVersion").unwrap_or_default();
        let form = match kind {
            "DevWorkspaceTemplate" => Some(Form::Template),
            "DevWorkspace" => Some(Form::DevWorkspace),
            _ => None,
        };
        return match form {
            Some(form) if api_version == API_VERSION => Some((form, Version::NEWEST)),
            _ => {
                reporter.add(
                    Code::DocumentKind,
                    root.entry("kind").map_or(root.place, |entry| entry.place),
                    &trail.key("kind"),
                    format!("{kind} of {api_version:?} is neither a DevWorkspace nor its template of {API_VERSION}"),
                    None,
                );
                None
            }
        };
    }
    let Some(node) = root.get("schemaVersion") else {
        let hint = match &root.value {
            Value::Mapping(entries) if entries.iter().any(|entry| entry.key == "apiVersion") => {
                "this looks like the first devfile format (1.0.0), which is no longer read"
            }
            Value::Mapping(_) => "write schemaVersion: 2.3.0 in the first line",
            Value::Null => "the document is empty; the least devfile is schemaVersion: 2.3.0",
            Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                "a devfile is a mapping that starts with schemaVersion: 2.3.0"
            }
        };
        reporter.add(
            Code::SchemaVersionMissing,
            root.place,
            &trail,
            "schemaVersion is missing",
            Some(hint.into()),
        );
        return None;
    };
    let trail = trail.key("schemaVersion");
    let Some(text) = node.as_text() else {
        let written = reporter.sources().written(node.place);
        let hint = written
            .filter(|_| matches!(node.value, Value::Number(_)))
            .map(|written| {
                format!("{written} is a number; versions have three parts, as {written}.0")
            });
        reporter.add(
            Code::WrongType,
            node.place,
            &trail,
            format!("expected a text, found {}", node.value.kind()),
            hint,
        );
        return None;
    };
    let Some(version) = Version::parse(text) else {
        let known: Vec<&str> = Version::ALL.into_iter().map(Version::name).collect();
        let message = if text.is_empty() {
            "schemaVersion is empty".to_owned()
        } else {
            format!("there is no schema for version {text:?}")
        };
        let near = schema::nearest(text, known.iter().copied())
            .map(|near| format!("did you mean {near}? "))
            .unwrap_or_default();
        reporter.add(
            Code::SchemaVersionUnknown,
            node.place,
            &trail,
            message,
            Some(format!("{near}known are {}", known.join(", "))),
        );
        return None;
    };
    Some((Form::Devfile, version))
}

/// The typed form of a content that fits its schema.
///
/// # Errors
/// Only after overriding can something stand here that no schema has seen.
pub(crate) fn typed(content: &Node) -> Result<Devfile, String> {
    serde_json::from_value(content.to_json()).map_err(|error| error.to_string())
}
