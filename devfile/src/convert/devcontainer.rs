//! A `devcontainer.json` to a devfile with one container.

mod commands;
mod ports;
mod references;
mod volumes;

use std::collections::BTreeMap;

use jsonc_parser::errors::ParseError;
use jsonc_parser::{ParseOptions, parse_to_serde_value};
use serde_json::{Map, Value, json};

use super::{Converted, in_version};
use crate::code::Code;
use crate::diagnostic::{Diagnostic, Reporter};
use crate::limits::MAX_DOCUMENT_BYTES;
use crate::node::Trail;
use crate::render::{IDLE, Notes, attribute_path};
use crate::schema::Version;
use crate::source::{Place, Source, Sources};

/// The one container.
const CONTAINER: &str = "dev";

const NOT_BUILT: (&str, &str) = (
    "the image is not built",
    "images are built before a workspace starts",
);
const NO_SERVICES: (&str, &str) = (
    "its services are not started",
    "Docker Compose is not read; write them as container components",
);
const OWN_USER: (&str, &str) = (
    "it has no effect",
    "the cluster chooses the user that containers run as",
);
const OWN_FOLDER: (&str, &str) = (
    "the sources are elsewhere",
    "a workspace clones them to the folder that PROJECT_SOURCE names",
);
const OWN_START: (&str, &str) = (
    "it has no effect",
    "Kubernetes starts containers, within the restricted security standard",
);

/// Properties that a devfile has no place for, and why.
const LEFT_OUT: [(&str, (&str, &str)); 24] = [
    ("appPort", ("it opens nothing", "forwardPorts does")),
    ("build", NOT_BUILT),
    ("capAdd", OWN_START),
    ("containerUser", OWN_USER),
    ("context", NOT_BUILT),
    (
        "customizations",
        ("it has no effect", "only the tool that defines it knows it"),
    ),
    ("dockerComposeFile", NO_SERVICES),
    ("dockerFile", NOT_BUILT),
    (
        "features",
        (
            "they are not installed",
            "a workspace runs images as they are; take one that has them",
        ),
    ),
    (
        "hostRequirements",
        (
            "nothing is set aside",
            "memoryRequest and cpuRequest of the container do that",
        ),
    ),
    ("init", OWN_START),
    (
        "initializeCommand",
        (
            "it does not run",
            "there is no machine outside of the container that it could run on",
        ),
    ),
    (
        "postAttachCommand",
        (
            "it does not run",
            "devfiles have no event for an editor that attaches",
        ),
    ),
    ("privileged", OWN_START),
    ("remoteUser", OWN_USER),
    ("runArgs", OWN_START),
    ("runServices", NO_SERVICES),
    ("securityOpt", OWN_START),
    ("service", NO_SERVICES),
    (
        "shutdownAction",
        ("it has no effect", "whoever started a workspace stops it"),
    ),
    ("updateRemoteUserUID", OWN_USER),
    (
        "waitFor",
        (
            "nothing waits",
            "commands after the start run in the background",
        ),
    ),
    ("workspaceFolder", OWN_FOLDER),
    ("workspaceMount", OWN_FOLDER),
];

/// Rewrites a `devcontainer.json` as a devfile. `image` is taken instead of the one that it names or builds.
///
/// # Errors
/// When the text is no JSON with comments, or there is no image.
pub fn devcontainer(
    name: &str,
    text: &str,
    image: Option<&str>,
    version: Version,
) -> Result<Converted, Vec<Diagnostic>> {
    let mut notes = Notes::default();
    // Without a byte-order mark.
    let source = Source::new(name, text);
    let devfile = read(source.text()).and_then(|fields| devfile(&fields, image, &mut notes));
    match devfile {
        Ok(devfile) => Ok(in_version(devfile, version, notes)),
        Err(problem) => Err(problem.told(source)),
    }
}

/// Why there is no devfile.
struct Problem {
    code: Code,
    /// Line and column.
    at: (usize, usize),
    message: String,
}

impl Problem {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            at: (1, 1),
            message: message.into(),
        }
    }

    fn told(self, source: Source) -> Vec<Diagnostic> {
        let mut sources = Sources::default();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let place = Place {
            document: sources.add(source),
            line: number(self.at.0),
            column: number(self.at.1),
            length: 1,
        };
        let mut reporter = Reporter::new(&sources);
        reporter.add(self.code, place, &Trail::ROOT, self.message, None);
        reporter.finish()
    }
}

fn read(text: &str) -> Result<Map<String, Value>, Problem> {
    if text.len() > MAX_DOCUMENT_BYTES {
        let message = format!("the text has more than {MAX_DOCUMENT_BYTES} bytes");
        return Err(Problem::new(Code::DocumentTooLarge, message));
    }
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let read: Result<Value, ParseError> = parse_to_serde_value(text, &options);
    match read {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => {
            let message = "a devcontainer.json is an object";
            Err(Problem::new(Code::WrongType, message))
        }
        Err(error) => Err(Problem {
            code: Code::JsonSyntax,
            at: (error.line_display(), error.column_display()),
            message: error.kind().to_string(),
        }),
    }
}

/// What the properties become.
#[derive(Default)]
struct Parts {
    env: BTreeMap<String, String>,
    endpoints: Vec<Value>,
    mounts: Vec<Value>,
    volumes: Vec<Value>,
    /// By the property that they are from.
    commands: BTreeMap<&'static str, Vec<Value>>,
}

fn devfile(
    fields: &Map<String, Value>,
    image: Option<&str>,
    notes: &mut Notes,
) -> Result<Value, Problem> {
    let mut parts = Parts::default();
    for (key, value) in fields {
        property(key, value, &mut parts, notes);
    }
    let own = fields.get("image").and_then(Value::as_str);
    let own = own.map(|image| references::in_text(image, "image", notes));
    let Some(image) = image.or(own.as_deref()) else {
        let message = "there is no image; build it, and name it with --image";
        return Err(Problem::new(Code::ImageUnknown, message));
    };
    let mut container = json!({"image": image, "mountSources": true});
    // The image's own entrypoint is used when it is asked for only.
    if fields.get("overrideCommand") != Some(&json!(false)) {
        container["command"] = json!(["/bin/sh", "-c", IDLE]);
    }
    let env = parts
        .env
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}));
    for (key, list) in [
        ("env", env.collect()),
        ("endpoints", parts.endpoints),
        ("volumeMounts", parts.mounts),
    ] {
        if !list.is_empty() {
            container[key] = list.into();
        }
    }
    let mut components = vec![json!({"name": CONTAINER, "container": container})];
    components.extend(parts.volumes);
    let mut devfile = json!({"components": components});
    if let Some(name) = fields.get("name").and_then(Value::as_str) {
        devfile["metadata"] = json!({"name": name});
    }
    commands::add(&mut devfile, parts.commands);
    Ok(devfile)
}

fn property(key: &str, value: &Value, parts: &mut Parts, notes: &mut Notes) {
    match key {
        "$schema" => {}
        "image" | "name" if !value.is_string() => no_form(key, "a text", notes),
        "overrideCommand" if !value.is_boolean() => no_form(key, "true or false", notes),
        "image" | "name" | "overrideCommand" => {}
        "containerEnv" | "remoteEnv" => env(key, value, &mut parts.env, notes),
        "forwardPorts" => ports::endpoints(value, parts, notes),
        "portsAttributes" => ports::attributes(value, parts, notes),
        "mounts" => volumes::mounts(value, parts, notes),
        _ => {
            if let Some(event) = commands::event(key) {
                let list = commands::read(event, value, notes);
                parts.commands.insert(event.key, list);
            } else if let Some((_, (what, why))) = LEFT_OUT.iter().find(|(name, _)| *name == key) {
                notes.add(key, *what, *why);
            } else {
                notes.add(
                    attribute_path("", key),
                    "it has no effect",
                    "a devfile has no place for this property",
                );
            }
        }
    }
}

/// `remoteEnv` comes last and wins; that it is for the editor's processes alone a devfile cannot say.
fn env(key: &str, value: &Value, env: &mut BTreeMap<String, String>, notes: &mut Notes) {
    let Some(variables) = value.as_object() else {
        return no_form(key, "an object of texts", notes);
    };
    for (name, value) in variables {
        let path = attribute_path(&format!("{key}."), name);
        match value {
            Value::String(text) => {
                let text = references::in_env(text, &path, notes);
                env.insert(name.clone(), text);
            }
            Value::Null => notes.add(
                path,
                "the variable is not taken away",
                "a devfile can only set variables",
            ),
            _ => no_form(&path, "a text", notes),
        }
    }
}

/// A value that cannot be read.
fn no_form(path: &str, wanted: &str, notes: &mut Notes) {
    notes.add(path, "it is left out", format!("it is not {wanted}"));
}
