//! Events to init containers and scripts.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{CommandKind, ComponentKind, Devfile, Exec};

use super::{Editor, Notes};

/// Where the output of commands after the start is kept in a container.
pub(super) const POST_START_LOG: &str = "/tmp/devfile-post-start.log";

/// How long a Pod that is stopped may take.
pub(super) const GRACE_SECONDS: u32 = 10;

/// Where the output of the editor is kept in a container.
pub(super) const EDITOR_LOG: &str = "/tmp/devfile-editor.log";
/// An editor's log begins anew with the start after it grew beyond this.
const EDITOR_LOG_BYTES: u32 = 1024 * 1024;
/// The longest wait before an editor that ended starts again, and how long it must run for the wait to be short again.
const EDITOR_DELAY_SECONDS: u32 = 60;

/// What runs when, by component.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// Command and component of each init container, in order.
    pub(super) init: Vec<(&'a str, &'a str)>,
    /// Ids of the commands that an event runs, those of composites among them.
    pub(super) run: BTreeSet<&'a str>,
    /// Kubernetes components that are applied before the start.
    pub(super) applied: BTreeSet<&'a str>,
    /// Containers that run before the start only.
    pub(super) init_only: BTreeSet<&'a str>,
    /// Containers that exec commands run in.
    pub(super) exec_targets: BTreeSet<&'a str>,
    /// Scripts after the start, by container.
    pub(super) post_start: BTreeMap<&'a str, Vec<Step<'a>>>,
    /// Scripts before the stop, by container.
    pub(super) pre_stop: BTreeMap<&'a str, Vec<Step<'a>>>,
}

/// One command line of an event.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) id: &'a str,
    pub(super) exec: &'a Exec,
    /// Whether the next one does not wait for it.
    pub(super) parallel: bool,
}

pub(super) fn plan<'a>(devfile: &'a Devfile, notes: &mut Notes) -> Plan<'a> {
    let mut plan = Plan::default();
    for command in &devfile.commands {
        if let CommandKind::Exec(exec) = &command.kind {
            plan.exec_targets.insert(&exec.component);
        }
    }
    let Some(events) = &devfile.events else {
        return plan;
    };
    pre_start(devfile, &events.pre_start, &mut plan, notes);
    for (event, ids, scripts) in [
        ("postStart", &events.post_start, &mut plan.post_start),
        ("preStop", &events.pre_stop, &mut plan.pre_stop),
    ] {
        for id in ids {
            let mut path = Vec::new();
            steps(devfile, id, false, &mut path, &mut plan.run, scripts);
        }
        if scripts.len() > 1 {
            notes.add(
                format!("events.{event}"),
                "commands of different containers run at the same time",
                "containers of a Pod start and stop together",
            );
        }
    }
    if !plan.pre_stop.is_empty() {
        notes.add(
            "events.preStop",
            format!("commands that take longer than {GRACE_SECONDS} s are ended"),
            "the grace period of the Pod is over then; pod-overrides may set another one",
        );
    }
    if !events.post_stop.is_empty() {
        notes.add(
            "events.postStop",
            "the commands do not run",
            "nothing of the workspace is there any more after its stop",
        );
    }
    plan
}

fn pre_start<'a>(devfile: &'a Devfile, ids: &'a [String], plan: &mut Plan<'a>, notes: &mut Notes) {
    let mut pending: Vec<&'a str> = ids.iter().rev().map(String::as_str).collect();
    let mut used_before: BTreeSet<&str> = BTreeSet::new();
    let mut expanded = 0;
    while let Some(id) = pending.pop() {
        expanded += 1;
        if expanded > crate::limits::MAX_ELEMENTS {
            notes.add(
                "events.preStart",
                "further commands are left out",
                "composites of composites make too many of them",
            );
            break;
        }
        let Some(command) = devfile.command(id) else {
            continue;
        };
        plan.run.insert(&command.id);
        match &command.kind {
            CommandKind::Composite(composite) => {
                if composite.parallel == Some(true) {
                    notes.add(
                        format!("commands[id={}].composite.parallel", command.id),
                        "its commands run one after the other",
                        "init containers of a Pod do",
                    );
                }
                pending.extend(composite.commands.iter().rev().map(String::as_str));
            }
            CommandKind::Apply(apply) => match devfile
                .component(&apply.component)
                .map(|component| &component.kind)
            {
                Some(ComponentKind::Container(_)) => {
                    plan.init.push((&command.id, &apply.component));
                    used_before.insert(&apply.component);
                }
                Some(ComponentKind::Kubernetes(_) | ComponentKind::Openshift(_)) => {
                    plan.applied.insert(&apply.component);
                }
                Some(ComponentKind::Image(_)) => notes.add(
                    format!("commands[id={}].apply", command.id),
                    "the image is not built",
                    "images are built before a workspace starts",
                ),
                Some(
                    ComponentKind::Volume(_) | ComponentKind::Plugin(_) | ComponentKind::Custom(_),
                )
                | None => {}
            },
            CommandKind::Exec(_)
            | CommandKind::Custom(_)
            | CommandKind::VscodeTask(_)
            | CommandKind::VscodeLaunch(_) => {}
        }
    }
    // A container that another command uses as well stays beside the others.
    let in_event: BTreeSet<&str> = plan.init.iter().map(|(id, _)| *id).collect();
    for command in &devfile.commands {
        let used = match &command.kind {
            CommandKind::Exec(exec) => Some(exec.component.as_str()),
            CommandKind::Apply(apply) if !in_event.contains(command.id.as_str()) => {
                Some(apply.component.as_str())
            }
            CommandKind::Apply(_)
            | CommandKind::Composite(_)
            | CommandKind::Custom(_)
            | CommandKind::VscodeTask(_)
            | CommandKind::VscodeLaunch(_) => None,
        };
        if let Some(used) = used {
            used_before.remove(used);
        }
    }
    plan.init_only = devfile
        .components
        .iter()
        .map(|component| component.name.as_str())
        .filter(|name| used_before.contains(name))
        .collect();
}

fn steps<'a>(
    devfile: &'a Devfile,
    id: &str,
    parallel: bool,
    path: &mut Vec<String>,
    run: &mut BTreeSet<&'a str>,
    scripts: &mut BTreeMap<&'a str, Vec<Step<'a>>>,
) {
    let Some(command) = devfile.command(id) else {
        return;
    };
    run.insert(&command.id);
    match &command.kind {
        CommandKind::Exec(exec) => {
            scripts.entry(&exec.component).or_default().push(Step {
                id: &command.id,
                exec,
                parallel,
            });
        }
        // One level, as the rules allow; the path keeps an unchecked devfile from going round in a circle.
        CommandKind::Composite(composite) if !path.contains(&command.id) && path.len() < 16 => {
            path.push(command.id.clone());
            let parallel = parallel || composite.parallel == Some(true);
            for id in &composite.commands {
                steps(devfile, id, parallel, path, run, scripts);
            }
            path.pop();
        }
        CommandKind::Composite(_)
        | CommandKind::Apply(_)
        | CommandKind::Custom(_)
        | CommandKind::VscodeTask(_)
        | CommandKind::VscodeLaunch(_) => {}
    }
}

/// The hook after a container's start. It starts the commands in the background and is done: whatever they do, the
/// container neither waits for them nor ends with them.
pub(super) fn post_start_script(steps: &[Step<'_>]) -> String {
    let mut script = String::new();
    for step in steps {
        let line = run(step);
        let id = step.id;
        let logged =
            format!("echo \"[{id}] starts\"; {line}; echo \"[{id}] ended with exit code $?\"");
        if step.parallel {
            script.push_str(&format!("( {logged} ) &\n"));
        } else {
            script.push_str(&format!("wait\n{logged}\n"));
        }
    }
    script.push_str("wait\n");
    format!("( {{\n{script}}} </dev/null >>{POST_START_LOG} 2>&1 & ) || :\n")
}

/// The part of the hook after a container's start that starts the editor: in the background, and again whenever it
/// ends, with a growing wait. Whatever it does, the container neither waits for it nor ends with it.
pub(super) fn editor_script(editor: &Editor) -> String {
    let mut line = String::from("env");
    for (name, value) in &editor.env {
        line.push(' ');
        line.push_str(&quoted(&format!("{name}={value}")));
    }
    line.push_str(&format!(" /bin/sh -c {}", quoted(&editor.command)));
    let name = quoted(&format!("[{}]", editor.name));
    format!(
        "( {{
delay=1
while :; do
began=$(date +%s)
if [ $(wc -c <{EDITOR_LOG}) -gt {EDITOR_LOG_BYTES} ]; then : >{EDITOR_LOG}; fi
echo {name} starts
{line}
echo {name} \"ended with exit code $?; starts again in $delay s\"
sleep $delay
if [ $(($(date +%s) - began)) -gt {EDITOR_DELAY_SECONDS} ]; then delay=1
elif [ $((delay * 2)) -le {EDITOR_DELAY_SECONDS} ]; then delay=$((delay * 2)); fi
done
}} </dev/null >>{EDITOR_LOG} 2>&1 & ) || :
"
    )
}

/// The hook before a container's stop. Kubernetes ends it when the grace period is over.
pub(super) fn pre_stop_script(steps: &[Step<'_>]) -> String {
    let mut script = String::new();
    for step in steps {
        let line = run(step);
        if step.parallel {
            script.push_str(&format!("{line} &\n"));
        } else {
            script.push_str(&format!("{line} || :\n"));
        }
    }
    script.push_str("wait\n");
    script
}

/// One command line, in a shell of its own: a mistake in it cannot break the script around it.
fn run(step: &Step<'_>) -> String {
    let Exec {
        command_line,
        working_dir,
        env,
        ..
    } = step.exec;
    let mut inner = String::new();
    if let Some(folder) = working_dir.as_deref().filter(|folder| !folder.is_empty()) {
        inner.push_str(&format!("cd {} || exit\n", expandable(folder)));
    }
    inner.push_str(command_line);
    let mut line = String::from("env");
    for env in env {
        line.push(' ');
        line.push_str(&quoted(&format!("{}={}", env.name, env.value)));
    }
    if env.is_empty() {
        line.clear();
    } else {
        line.push(' ');
    }
    format!("{line}/bin/sh -c {}", quoted(&inner))
}

/// A text as one word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A path as one word in which variables are still replaced, but no commands run.
fn expandable(text: &str) -> String {
    let mut word = String::from("\"");
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let substitution = c == '$' && characters.peek() == Some(&'(');
        if matches!(c, '"' | '\\' | '`') || substitution {
            word.push('\\');
        }
        word.push(c);
    }
    word.push('"');
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(command_line: &str, working_dir: Option<&str>) -> Exec {
        Exec {
            command_line: command_line.into(),
            component: "tools".into(),
            working_dir: working_dir.map(str::to_owned),
            ..Exec::default()
        }
    }

    /// Runs a script as a container would and gives its exit code and what it wrote.
    fn sh(script: &str) -> (i32, String) {
        let output = std::process::Command::new("/bin/sh")
            .args(["-c", script])
            .env("PROJECTS_ROOT", "/usr")
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    #[test]
    fn a_broken_command_line_does_not_break_the_hook() {
        let broken = exec("echo 'unbalanced (", None);
        let good = exec("echo \"it's $(pwd)\"", Some("${PROJECTS_ROOT}/bin"));
        let steps = [
            Step {
                id: "broken",
                exec: &broken,
                parallel: false,
            },
            Step {
                id: "good",
                exec: &good,
                parallel: false,
            },
        ];
        let (code, out) = sh(&pre_stop_script(&steps));
        assert_eq!((code, out.as_str()), (0, "it's /usr/bin\n"));
    }

    #[test]
    fn the_hook_after_the_start_returns_at_once_and_keeps_the_output() {
        let slow = exec("echo before; sleep 0.3; echo after; exit 3", None);
        let steps = [Step {
            id: "slow",
            exec: &slow,
            parallel: false,
        }];
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let script = post_start_script(&steps).replace(POST_START_LOG, log.to_str().unwrap());
        let start = std::time::Instant::now();
        let (code, out) = sh(&script);
        assert_eq!((code, out.as_str()), (0, ""));
        assert!(start.elapsed() < std::time::Duration::from_millis(250));
        let expected = "[slow] starts\nbefore\nafter\n[slow] ended with exit code 3\n";
        let deadline = start + std::time::Duration::from_secs(10);
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text == expected {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{text}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_editor_that_ends_starts_again_and_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let (log, end) = (folder.path().join("log"), folder.path().join("end"));
        let editor = Editor {
            name: "edit".into(),
            image: String::new(),
            path: String::new(),
            inject: Vec::new(),
            // It ends the script around it when it was started twice.
            command: format!(
                "echo \"color $COLOR\"; [ -e {0} ] && kill $PPID; : >{0}; exit 7",
                end.display()
            ),
            port: 1,
            memory_limit: String::new(),
            memory_request: String::new(),
            env: vec![("COLOR".into(), "it's blue".into())],
        };
        let script = editor_script(&editor).replace(EDITOR_LOG, log.to_str().unwrap());
        let start = std::time::Instant::now();
        let (code, out) = sh(&script);
        assert_eq!((code, out.as_str()), (0, ""));
        assert!(start.elapsed() < std::time::Duration::from_millis(900));
        let expected = "[edit] starts\ncolor it's blue\n\
                        [edit] ended with exit code 7; starts again in 1 s\n\
                        [edit] starts\ncolor it's blue\n";
        let deadline = start + std::time::Duration::from_secs(20);
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text == expected {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{text}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_folder_runs_no_commands() {
        assert_eq!(
            expandable("$HOME/$(id)`id`\""),
            "\"$HOME/\\$(id)\\`id\\`\\\"\""
        );
    }
}
