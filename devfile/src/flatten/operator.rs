//! What DevWorkspace Operator does otherwise than the library: equal volumes become one, and containers that are marked as
//! contributions go into the container that they are for.

use super::overrides;
use crate::code::Code;
use crate::diagnostic::Reporter;
use crate::node::{Node, Trail, Value};
use crate::quantity::Quantity;

/// On every imported element: `parent`, or the plugin's name.
pub(super) const IMPORTED_BY: &str = "controller.devfile.io/imported-by";
pub(super) const BY_PARENT: &str = "parent";
const CONTRIBUTION: &str = "controller.devfile.io/container-contribution";
const TARGET: &str = "controller.devfile.io/merge-contribution";
const MERGED: &str = "controller.devfile.io/merged-contributions";
const RESOURCES: [&str; 4] = ["memoryLimit", "memoryRequest", "cpuLimit", "cpuRequest"];

/// Makes one of volumes that several of main, parent and plugins define, where the first of them has it. `false` if a size
/// cannot be read.
pub(super) fn merge_volumes(
    main: &mut Node,
    parent: Option<&mut Node>,
    plugins: &mut [(String, Node)],
    reporter: &mut Reporter<'_>,
) -> bool {
    let mut fits = true;
    let mut seen: Vec<Node> = Vec::new();
    let plugins = plugins.iter_mut().map(|(_, content)| content);
    let mut contents: Vec<&mut Node> = std::iter::once(main).chain(parent).chain(plugins).collect();
    for content in &mut contents {
        let own = seen.len();
        let Some(Value::List(components)) = components(content) else {
            continue;
        };
        components.retain(|component| {
            let is_volume = component.get("volume").is_some();
            let name = component.text_at("name");
            // Twice in one and the same is for the validation to say.
            let first = seen[..own].iter_mut().find(|it| it.text_at("name") == name);
            match first {
                Some(first) if is_volume => {
                    fits &= merge_volume(first, component, reporter);
                    false
                }
                _ => {
                    if is_volume {
                        seen.push(component.clone());
                    }
                    true
                }
            }
        });
    }
    // Back to where they were taken from.
    for content in contents {
        let Some(Value::List(components)) = components(content) else {
            continue;
        };
        for component in components {
            let name = component.text_at("name").map(str::to_owned);
            if component.get("volume").is_some()
                && let Some(merged) = seen.iter().find(|it| it.text_at("name") == name.as_deref())
            {
                *component = merged.clone();
            }
        }
    }
    fits
}

fn components(content: &mut Node) -> Option<&mut Value> {
    content.get_mut("components").map(|node| &mut node.value)
}

/// The larger size wins, and a volume that is kept over one that is not.
fn merge_volume(into: &mut Node, from: &Node, reporter: &mut Reporter<'_>) -> bool {
    let (Some(into), Some(from)) = (into.get_mut("volume"), from.get("volume")) else {
        return true;
    };
    let is_kept = |volume: &Node| {
        volume
            .get("ephemeral")
            .is_none_or(|node| node.value != Value::Bool(true))
    };
    if is_kept(from) && !is_kept(into) {
        into.remove("ephemeral");
    }
    let mut fits = true;
    let mut size = |volume: &Node| {
        let size = volume.get("size")?;
        let read = Quantity::parse(size.as_text()?);
        if read.is_err() {
            fits = false;
            let at = Trail::ROOT.key("components");
            let message = format!("{:?} is no quantity", size.as_text().unwrap_or_default());
            reporter.add(Code::QuantityInvalid, size.place, &at, message, None);
        }
        read.ok()
    };
    let (have, given) = (size(into), size(from));
    let is_larger = match (have, given) {
        (Some(have), Some(given)) => given > have,
        (None, given) => given.is_some(),
        (Some(_), None) => false,
    };
    if is_larger && let Some(size) = from.get("size") {
        into.set("size", size.clone());
    }
    fits
}

/// Puts contributions into the container that says so, else into the first that did not come by a plugin and does not
/// refuse. Without such a one they stay containers.
pub(super) fn merge_contributions(content: &mut Node, reporter: &mut Reporter<'_>) {
    let items = content.items_at("components");
    let contributions: Vec<Node> = items
        .iter()
        .filter(|it| is_contribution(it))
        .cloned()
        .collect();
    if contributions.is_empty() {
        return;
    }
    let Some(target) = target(items, reporter) else {
        return;
    };
    if !retarget_commands(content, &contributions, &target, reporter) {
        return;
    }
    let Some(Value::List(items)) = components(content) else {
        return;
    };
    items.retain(|it| !is_contribution(it));
    if let Some(item) = items
        .iter_mut()
        .find(|it| it.text_at("name") == Some(&target))
    {
        for contribution in &contributions {
            contribute(item, contribution, reporter);
        }
        let names = contributions.iter().map(|it| {
            let by = attribute(it, IMPORTED_BY).and_then(Node::as_text);
            by.or_else(|| it.text_at("name")).unwrap_or_default()
        });
        let names = names.collect::<Vec<_>>().join(",");
        overrides::set_attribute(item, MERGED, Node::text(item.place, names));
        if let Some(attributes) = item.get_mut("attributes") {
            attributes.remove(TARGET);
        }
    }
}

fn attribute<'a>(component: &'a Node, name: &str) -> Option<&'a Node> {
    component.get("attributes")?.get(name)
}

/// A switch that is on or off, also when it is written as a text.
fn switch(component: &Node, name: &str) -> Option<bool> {
    match &attribute(component, name)?.value {
        Value::Bool(on) => Some(*on),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn is_contribution(component: &Node) -> bool {
    component.get("container").is_some() && switch(component, CONTRIBUTION) == Some(true)
}

/// Name of the container that contributions go into.
fn target(components: &[Node], reporter: &mut Reporter<'_>) -> Option<String> {
    let containers = || {
        let all = components.iter().enumerate();
        all.filter(|(_, it)| it.get("container").is_some() && !is_contribution(it))
    };
    let mut explicit = containers().filter(|(_, it)| switch(it, TARGET) == Some(true));
    let first = explicit.next();
    if let (Some((_, first)), Some((index, second))) = (first, explicit.next()) {
        let at = Trail::ROOT.key("components");
        let (item, name) = (at.index(index), first.text_at("name").unwrap_or_default());
        let place = attribute(second, TARGET).map_or(second.place, |node| node.place);
        reporter.add(
            Code::OperatorContribution,
            place,
            &item.key("attributes").key(TARGET),
            format!("contributions go into {name} already"),
            Some("one component only may have it".into()),
        );
        return None;
    }
    let is_own = |component: &Node| {
        let by = attribute(component, IMPORTED_BY).and_then(Node::as_text);
        by.is_none_or(|by| by == BY_PARENT)
    };
    let implicit = || containers().find(|(_, it)| is_own(it) && switch(it, TARGET) != Some(false));
    let (_, found) = first.or_else(implicit)?;
    found.text_at("name").map(str::to_owned)
}

/// What ran in a contribution runs in the target. What would start a contribution cannot: `false`.
fn retarget_commands(
    content: &mut Node,
    contributions: &[Node],
    target: &str,
    reporter: &mut Reporter<'_>,
) -> bool {
    let is_one = |component: &Node| {
        let name = component.as_text();
        contributions.iter().any(|it| it.text_at("name") == name)
    };
    let Some(Node {
        value: Value::List(commands),
        ..
    }) = content.get_mut("commands")
    else {
        return true;
    };
    let mut fits = true;
    let at = Trail::ROOT.key("commands");
    for (index, command) in commands.iter_mut().enumerate() {
        if let Some(component) = command.get("apply").and_then(|it| it.get("component"))
            && is_one(component)
        {
            fits = false;
            let item = at.index(index);
            let name = component.as_text().unwrap_or_default();
            reporter.add(
                Code::OperatorContribution,
                component.place,
                &item.key("apply").key("component"),
                format!("{name} is a contribution to {target} and no container of its own"),
                None,
            );
        }
        let component = command
            .get_mut("exec")
            .and_then(|it| it.get_mut("component"));
        if let Some(component) = component
            && is_one(component)
        {
            *component = Node::text(component.place, target);
        }
    }
    fits
}

/// Image and name stay; resources are added where the target has any; all else is as with overrides.
fn contribute(target: &mut Node, contribution: &Node, reporter: &mut Reporter<'_>) {
    let mut patch = contribution.clone();
    for key in ["name", "image"] {
        patch.remove(key);
    }
    if let Some(attributes) = patch.get_mut("attributes") {
        attributes.remove(CONTRIBUTION);
        attributes.remove(IMPORTED_BY);
    }
    if let Some(container) = patch.get_mut("container") {
        container.remove("image");
        for resource in RESOURCES {
            let Some(given) = container.remove(resource) else {
                continue;
            };
            let have = target
                .get_mut("container")
                .and_then(|it| it.get_mut(resource));
            let sum = have
                .as_ref()
                .and_then(|have| sum(have.as_text()?, given.as_text()?));
            if let (Some(have), Some(sum)) = (have, sum) {
                *have = Node::text(have.place, sum);
            }
        }
    }
    overrides::merge_mapping(target, patch, &Trail::ROOT.key("components"), reporter);
}

/// In the target's form, as Kubernetes writes sums. What is no quantity is for the validation to say.
fn sum(have: &str, given: &str) -> Option<String> {
    let (first, second) = (Quantity::parse(have).ok()?, Quantity::parse(given).ok()?);
    Some(first.checked_add(second)?.write(have.ends_with('i')))
}
