//! Merging parent, plugins and the devfile itself, none of which may say anew what another says.

use std::collections::HashMap;

use super::overrides::LISTS;
use super::{Style, operator};
use crate::code::Code;
use crate::diagnostic::Reporter;
use crate::node::{Entry, Node, Trail, Value};

const EVENTS: [&str; 4] = ["preStart", "postStart", "preStop", "postStop"];

/// Merges in the order parent, plugins, main. `None` if two of them define the same.
pub(super) fn merge(
    mut main: Node,
    parent: Option<Node>,
    plugins: Vec<(String, Node)>,
    style: Style,
    reporter: &mut Reporter<'_>,
) -> Option<Node> {
    let (mut parent, mut plugins) = (parent, plugins);
    if parent.is_none() && plugins.is_empty() {
        unique_events(&mut main);
        return Some(main);
    }
    let mut fits = match style {
        Style::Library => true,
        Style::Operator => {
            operator::merge_volumes(&mut main, parent.as_mut(), &mut plugins, reporter)
        }
    };
    let imported: Vec<(String, Node)> = parent
        .into_iter()
        .map(|parent| ("the parent".to_owned(), parent))
        .chain(
            plugins
                .into_iter()
                .map(|(name, plugin)| (format!("plugin {name}"), plugin)),
        )
        .collect();
    // Plugin components are replaced by what they name.
    if let Some(Node {
        value: Value::List(components),
        ..
    }) = main.get_mut("components")
    {
        components.retain(|component| component.get("plugin").is_none());
    }
    for (list, key) in LISTS {
        fits &= merge_list(&mut main, &imported, list, key, reporter);
    }
    for map in ["variables", "attributes"] {
        fits &= merge_map(&mut main, &imported, map, reporter);
    }
    merge_events(&mut main, &imported);
    fits.then_some(main)
}

fn merge_list(
    main: &mut Node,
    imported: &[(String, Node)],
    list: &str,
    key: &str,
    reporter: &mut Reporter<'_>,
) -> bool {
    let mut fits = true;
    let mut owners: HashMap<String, &str> = HashMap::new();
    let mut result: Vec<Node> = Vec::new();
    let at = Trail::ROOT.key(list);
    for (owner, content) in imported {
        for item in content.items_at(list) {
            let name = item.text_at(key).unwrap_or_default();
            match owners.get(name) {
                // Twice in one and the same is for the validation to say.
                Some(other) if other != owner => {
                    fits = false;
                    tell(reporter, item.get(key).unwrap_or(item), &at, name, other);
                }
                Some(_) => {}
                None => {
                    owners.insert(name.to_owned(), owner);
                }
            }
            result.push(item.clone());
        }
    }
    let own = main.items_at(list).to_vec();
    for (index, item) in own.iter().enumerate() {
        let name = item.text_at(key).unwrap_or_default();
        if let Some(owner) = owners.get(name) {
            fits = false;
            let item_at = at.index(index);
            tell(
                reporter,
                item.get(key).unwrap_or(item),
                &item_at.key(key),
                name,
                owner,
            );
        }
    }
    if !result.is_empty() {
        let place = main.get(list).map_or(result[0].place, |node| node.place);
        result.extend(own);
        main.set(list, Node::new(place, Value::List(result)));
    }
    fits
}

fn tell(reporter: &mut Reporter<'_>, node: &Node, at: &Trail<'_>, name: &str, owner: &str) {
    reporter.add(
        Code::MergeConflict,
        node.place,
        at,
        format!("{name:?} is defined in {owner} already"),
        Some(format!("to change it, write it in the scope of {owner}")),
    );
}

fn merge_map(
    main: &mut Node,
    imported: &[(String, Node)],
    map: &str,
    reporter: &mut Reporter<'_>,
) -> bool {
    let mut fits = true;
    let mut result: Vec<(Entry, &str)> = Vec::new();
    let at = Trail::ROOT.key(map);
    let owner_of = |result: &[(Entry, &str)], key: &str| {
        result
            .iter()
            .find(|(entry, _)| entry.key == key)
            .map(|(_, owner)| (*owner).to_owned())
    };
    for (owner, content) in imported {
        for entry in content.get(map).map_or(&[][..], Node::entries) {
            match owner_of(&result, &entry.key) {
                Some(other) => {
                    fits = false;
                    tell(
                        reporter,
                        &entry.node,
                        &at.key(&entry.key),
                        &entry.key,
                        &other,
                    );
                }
                None => result.push((entry.clone(), owner)),
            }
        }
    }
    for entry in main.get(map).map_or(&[][..], Node::entries) {
        match owner_of(&result, &entry.key) {
            Some(owner) => {
                fits = false;
                tell(
                    reporter,
                    &entry.node,
                    &at.key(&entry.key),
                    &entry.key,
                    &owner,
                );
            }
            None => result.push((entry.clone(), "main")),
        }
    }
    if let Some((first, _)) = result.first() {
        let place = main.get(map).map_or(first.place, |node| node.place);
        let entries = result.into_iter().map(|(entry, _)| entry).collect();
        main.set(map, Node::new(place, Value::Mapping(entries)));
    }
    fits
}

fn merge_events(main: &mut Node, imported: &[(String, Node)]) {
    for event in EVENTS {
        let mut ids: Vec<Node> = Vec::new();
        let given = imported
            .iter()
            .filter_map(|(_, content)| content.get("events"))
            .chain(main.get("events"));
        for events in given {
            ids.extend(events.items_at(event).iter().cloned());
        }
        let Some(place) = ids.first().map(|node| node.place) else {
            continue;
        };
        if main.get("events").is_none() {
            main.set("events", Node::new(place, Value::Mapping(Vec::new())));
        }
        if let Some(events) = main.get_mut("events") {
            events.set(event, Node::new(place, Value::List(ids)));
        }
    }
    unique_events(main);
}

/// A command that an event names several times runs once, where it is named first.
fn unique_events(main: &mut Node) {
    let Some(events) = main.get_mut("events") else {
        return;
    };
    for event in EVENTS {
        if let Some(Node {
            value: Value::List(ids),
            ..
        }) = events.get_mut(event)
        {
            let mut seen = std::collections::HashSet::new();
            ids.retain(|id| id.as_text().is_none_or(|text| seen.insert(text.to_owned())));
        }
    }
}
