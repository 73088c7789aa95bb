//! Commands that run by themselves: before and after the start.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Flattened, volumes::HOME};

/// How deep composite commands may stand in one another.
const MAX_DEPTH: usize = 16;
/// Longest name of a container.
const MAX_NAME: usize = 63;

/// Init containers of preStart: the name of each, and the component it is made of.
pub(super) fn applied_before_start(devfile: &Flattened) -> Vec<(String, String)> {
    let mut applied: Vec<(String, String)> = Vec::new();
    for command in expanded(devfile, "preStart") {
        let (Some(id), Some(component)) = (command["id"].as_str(), command["apply"]["component"].as_str())
        else {
            continue;
        };
        // As the Go library names them: a component may be applied by several commands.
        let mut name = format!("{component}-{id}").to_ascii_lowercase();
        name.truncate(MAX_NAME - 8);
        let name = format!("{name}-{}", applied.len() + 1);
        applied.push((name, component.to_owned()));
    }
    applied
}

/// The script that starts a container's postStart commands in the background. Its own end is always a success, and at
/// once: a hook that fails or hangs would take the container with it.
pub(super) fn after_start(devfile: &Flattened, container: &str) -> Option<String> {
    let commands = expanded(devfile, "postStart");
    let mut commands = commands.iter().filter(|it| it["exec"]["component"] == container).peekable();
    commands.peek()?;
    let log = quote(&format!("{HOME}/.workspace/logs/{container}-poststart.log"));
    let mut script = format!("mkdir -p {HOME}/.workspace/logs\n(\n");
    for command in commands {
        let exec = &command["exec"];
        let id = quote(command["id"].as_str().unwrap_or_default());
        let folder = exec["workingDir"].as_str().unwrap_or("${PROJECT_SOURCE}");
        // Variables in it are for the shell, as in the command line.
        let folder = folder.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = write!(script, "(\necho \"postStart:\" {id}\ncd \"{folder}\" || exit 1\n");
        for variable in exec["env"].as_array().into_iter().flatten() {
            if let (Some(name), Some(value)) = (variable["name"].as_str(), variable["value"].as_str()) {
                let _ = writeln!(script, "export {name}={}", quote(value));
            }
        }
        let line = quote(exec["commandLine"].as_str().unwrap_or_default());
        let _ = write!(script, "/bin/sh -c {line}\n)\necho \"postStart:\" {id} \"ended with $?\"\n");
    }
    let _ = write!(script, ") >>{log} 2>&1 </dev/null &\nexit 0\n");
    Some(script)
}

/// The commands of an event, composite ones replaced by what they are made of.
fn expanded<'a>(devfile: &'a Flattened, event: &str) -> Vec<&'a Value> {
    let mut commands = Vec::new();
    for id in devfile.event(event) {
        expand(devfile, id, 0, &mut commands);
    }
    commands
}

fn expand<'a>(devfile: &'a Flattened, id: &str, depth: usize, commands: &mut Vec<&'a Value>) {
    let Some(command) = devfile.command(id).filter(|_| depth < MAX_DEPTH) else {
        return;
    };
    match command["composite"]["commands"].as_array() {
        Some(parts) => {
            for part in parts.iter().filter_map(Value::as_str) {
                expand(devfile, part, depth + 1, commands);
            }
        }
        None => commands.push(command),
    }
}

/// A text as one word of a shell.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
