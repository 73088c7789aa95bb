//! References such as `${containerWorkspaceFolder}`, which a devfile does not know.

use crate::render::Notes;

/// In the value of a variable of the container, where Kubernetes puts in `$(NAME)`.
pub(super) fn in_env(text: &str, path: &str, notes: &mut Notes) -> String {
    replaced(text, path, notes, |name, argument| match name {
        "containerWorkspaceFolder" => Some("$(PROJECT_SOURCE)".into()),
        "containerEnv" => {
            let (name, _) = argument.split_once(':').unwrap_or((argument, ""));
            Some(format!("$({name})"))
        }
        _ => None,
    })
}

/// In a command line.
pub(super) fn in_shell(text: &str, path: &str, notes: &mut Notes) -> String {
    replaced(text, path, notes, shell)
}

/// In one word of a command line, in which a shell finds nothing else to replace.
pub(super) fn in_word(word: &str, path: &str, notes: &mut Notes) -> String {
    let escaped = word.replace('\'', "'\\''");
    let inner = replaced(&escaped, path, notes, |name, argument| {
        Some(format!("'\"{}\"'", shell(name, argument)?))
    });
    format!("'{inner}'")
}

fn shell(name: &str, argument: &str) -> Option<String> {
    match name {
        "containerWorkspaceFolder" => Some("${PROJECT_SOURCE}".into()),
        "containerWorkspaceFolderBasename" | "localWorkspaceFolderBasename" => {
            Some("${PROJECT_SOURCE##*/}".into())
        }
        "containerEnv" => match argument.split_once(':') {
            Some((name, default)) => Some(format!("${{{name}:-{default}}}")),
            None => Some(format!("${{{argument}}}")),
        },
        _ => None,
    }
}

/// Where nothing puts values in.
pub(super) fn in_text(text: &str, path: &str, notes: &mut Notes) -> String {
    replaced(text, path, notes, |_, _| None)
}

/// The names of references; all else between `${` and `}` is a shell's.
const NAMES: [&str; 8] = [
    "containerEnv",
    "containerWorkspaceFolder",
    "containerWorkspaceFolderBasename",
    "devcontainerId",
    "env",
    "localEnv",
    "localWorkspaceFolder",
    "localWorkspaceFolderBasename",
];

fn replaced(
    text: &str,
    path: &str,
    notes: &mut Notes,
    known: impl Fn(&str, &str) -> Option<String>,
) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        result.push_str(before);
        let reference = after
            .split_once('}')
            .map(|(inner, behind)| (inner.split_once(':').unwrap_or((inner, "")), behind))
            .filter(|((name, _), _)| NAMES.contains(name));
        let Some(((name, argument), behind)) = reference else {
            result.push_str("${");
            rest = after;
            continue;
        };
        if let Some(value) = known(name, argument) {
            result.push_str(&value);
        } else {
            // `localEnv:NAME:default`
            let default = argument.split_once(':').map_or("", |(_, default)| default);
            result.push_str(default);
            notes.add(
                path,
                format!("${{{name}}} is replaced by {default:?}"),
                "a workspace knows neither the machine in front of people nor an id of the container",
            );
        }
        rest = behind;
    }
    result.push_str(rest);
    result
}
