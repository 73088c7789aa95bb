//! The library's rules for commands and events.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Check;
use crate::code::Code;
use crate::diagnostic::Severity;
use crate::model::{Command, CommandKind, Component, ComponentKind, Composite, Devfile, GroupKind};
use crate::node::Trail;
use crate::schema::nearest;

pub(super) fn validate(check: &mut Check<'_, '_, '_>) {
    let devfile = check.devfile;
    let components: HashMap<&str, &Component> = devfile
        .components
        .iter()
        .rev()
        .map(|component| (component.name.as_str(), component))
        .collect();
    let commands = by_id(devfile);
    let at = Trail::ROOT.key("commands");
    let mut ids = HashSet::new();
    for (index, command) in devfile.commands.iter().enumerate() {
        let item = at.index(index);
        if !ids.insert(&command.id) {
            check.tell(
                Code::DuplicateName,
                &item.key("id"),
                format!("there is a command {} already", command.id),
                None,
            );
        }
        match &command.kind {
            CommandKind::Exec(exec) => {
                component_fits(check, &item, command, &exec.component, &components);
            }
            CommandKind::Apply(apply) => {
                component_fits(check, &item, command, &apply.component, &components);
            }
            CommandKind::Composite(composite) => {
                composite_fits(check, &item, command, composite, &commands);
            }
            CommandKind::Custom(_) | CommandKind::VscodeTask(_) | CommandKind::VscodeLaunch(_) => {
                check.tell(
                    Code::CommandTypeInvalid,
                    &item.key(command.kind.name()),
                    format!(
                        "command {} is of kind {}, which only the tool that defines it can run",
                        command.id,
                        command.kind.name()
                    ),
                    None,
                );
            }
        }
    }
    cycles(check, &commands);
    groups(check);
    events(check, &commands);
}

/// Indexes of the commands by id. The last of several with one id counts, as in the library.
pub(super) fn by_id(devfile: &Devfile) -> HashMap<String, usize> {
    devfile
        .commands
        .iter()
        .enumerate()
        .map(|(index, command)| (command.id.to_lowercase(), index))
        .collect()
}

fn component_fits(
    check: &mut Check<'_, '_, '_>,
    at: &Trail<'_>,
    command: &Command,
    name: &str,
    components: &HashMap<&str, &Component>,
) {
    let kind = command.kind.name();
    let body = at.key(kind);
    let applies = matches!(command.kind, CommandKind::Apply(_));
    let (message, hint) = match components.get(name) {
        Some(component) => {
            let fits = match &component.kind {
                ComponentKind::Container(_) => true,
                ComponentKind::Image(_)
                | ComponentKind::Kubernetes(_)
                | ComponentKind::Openshift(_) => applies,
                ComponentKind::Volume(_) | ComponentKind::Plugin(_) | ComponentKind::Custom(_) => {
                    false
                }
            };
            if fits {
                return;
            }
            let wanted = if applies {
                "apply takes a container, kubernetes, openshift or image component"
            } else {
                "exec runs in a container component"
            };
            (
                format!(
                    "command {}: {name} is a {} component",
                    command.id,
                    component.kind.name()
                ),
                Some(wanted.to_owned()),
            )
        }
        None => (
            format!("command {}: there is no component {name:?}", command.id),
            nearest(name, components.keys().copied()).map(|near| format!("did you mean {near}?")),
        ),
    };
    check.tell(
        Code::CommandComponentInvalid,
        &body.key("component"),
        message,
        hint,
    );
}

fn composite_fits(
    check: &mut Check<'_, '_, '_>,
    at: &Trail<'_>,
    command: &Command,
    composite: &Composite,
    commands: &HashMap<String, usize>,
) {
    let body = at.key("composite");
    let list = body.key("commands");
    for (index, id) in composite.commands.iter().enumerate() {
        if id.to_lowercase() == command.id {
            check.tell(
                Code::CompositeSelf,
                &list.index(index),
                format!("composite command {} names itself", command.id),
                None,
            );
        } else if !commands.contains_key(&id.to_lowercase()) {
            check.tell(
                Code::CompositeUnknown,
                &list.index(index),
                format!(
                    "composite command {}: there is no command {id:?}",
                    command.id
                ),
                nearest(id, commands.keys().map(String::as_str))
                    .map(|near| format!("did you mean {near}?")),
            );
        }
    }
}

/// Finds composites that reach themselves through others. Each command is looked at once.
fn cycles(check: &mut Check<'_, '_, '_>, commands: &HashMap<String, usize>) {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let devfile = check.devfile;
    let children = |index: usize| match &devfile.commands[index].kind {
        CommandKind::Composite(composite) => composite.commands.as_slice(),
        _ => &[],
    };
    let mut states = vec![State::New; devfile.commands.len()];
    for start in 0..devfile.commands.len() {
        if states[start] != State::New {
            continue;
        }
        states[start] = State::Open;
        // Own stack: a chain of 10,000 composites must not use up the thread's.
        let mut stack = vec![(start, 0)];
        while let Some((index, child)) = stack.pop() {
            let Some(id) = children(index).get(child) else {
                states[index] = State::Done;
                continue;
            };
            stack.push((index, child + 1));
            let Some(&next) = commands.get(&id.to_lowercase()) else {
                continue;
            };
            match states[next] {
                State::New => {
                    states[next] = State::Open;
                    stack.push((next, 0));
                }
                State::Open if next != index => {
                    let chain: Vec<&str> = stack
                        .iter()
                        .skip_while(|(on, _)| *on != next)
                        .map(|(on, _)| devfile.commands[*on].id.as_str())
                        .collect();
                    let at = Trail::ROOT.key("commands");
                    let item = at.index(index);
                    let body = item.key("composite");
                    let list = body.key("commands");
                    check.tell(
                        Code::CompositeSelf,
                        &list.index(child),
                        format!(
                            "composite command {} names itself through others: {} -> {id}",
                            devfile.commands[next].id,
                            chain.join(" -> ")
                        ),
                        None,
                    );
                }
                State::Open | State::Done => {}
            }
        }
    }
}

fn groups(check: &mut Check<'_, '_, '_>) {
    let devfile = check.devfile;
    let mut kinds: BTreeMap<GroupKind, Vec<(usize, &Command, bool)>> = BTreeMap::new();
    for (index, command) in devfile.commands.iter().enumerate() {
        if let Some(group) = command.group() {
            kinds.entry(group.kind).or_default().push((
                index,
                command,
                group.is_default == Some(true),
            ));
        }
    }
    let at = Trail::ROOT.key("commands");
    for (kind, members) in kinds {
        let defaults: Vec<_> = members.iter().filter(|(_, _, default)| *default).collect();
        if members.len() > 1 && defaults.is_empty() {
            let (index, command, _) = members[0];
            let item = at.index(index);
            let body = item.key(command.kind.name());
            let names: Vec<&str> = members.iter().map(|(_, c, _)| c.id.as_str()).collect();
            let severity = if check.rules.strict_defaults {
                Severity::Error
            } else {
                Severity::Warning
            };
            check.tell_as(
                Code::GroupDefaultMissing,
                severity,
                &body.key("group"),
                format!(
                    "none of the {} commands {} is the default",
                    kind.name(),
                    names.join(", ")
                ),
                Some("write isDefault: true in the group of one of them".into()),
            );
        }
        for (index, command, _) in defaults.iter().skip(1) {
            let item = at.index(*index);
            let body = item.key(command.kind.name());
            let group = body.key("group");
            check.tell(
                Code::GroupDefaultSeveral,
                &group.key("isDefault"),
                format!(
                    "command {} is the default of {} already",
                    defaults[0].1.id,
                    kind.name()
                ),
                None,
            );
        }
    }
}

pub(super) fn events(check: &mut Check<'_, '_, '_>, commands: &HashMap<String, usize>) {
    let devfile = check.devfile;
    let Some(events) = &devfile.events else {
        return;
    };
    let at = Trail::ROOT.key("events");
    for (event, ids, wanted) in [
        ("preStart", &events.pre_start, "apply"),
        ("postStart", &events.post_start, "exec"),
        ("preStop", &events.pre_stop, "exec"),
        ("postStop", &events.post_stop, "apply"),
    ] {
        let list = at.key(event);
        for (index, id) in ids.iter().enumerate() {
            let Some(&command) = commands.get(&id.to_lowercase()) else {
                check.tell(
                    Code::EventUnknownCommand,
                    &list.index(index),
                    format!("{event}: there is no command {id:?}"),
                    nearest(id, commands.keys().map(String::as_str))
                        .map(|near| format!("did you mean {near}?")),
                );
                continue;
            };
            let command = &devfile.commands[command];
            let wrong = match &command.kind {
                CommandKind::Composite(composite) => composite
                    .commands
                    .iter()
                    .filter_map(|id| commands.get(id))
                    .map(|index| &devfile.commands[*index])
                    .find(|command| command.kind.name() != wanted),
                _ => (command.kind.name() != wanted).then_some(command),
            };
            if let Some(wrong) = wrong {
                check.tell(
                    Code::EventWrongCommand,
                    &list.index(index),
                    format!("{event}: {} is an {} command", wrong.id, wrong.kind.name()),
                    Some(format!(
                        "{event} takes {wanted} commands and composites of them"
                    )),
                );
            }
        }
    }
}
