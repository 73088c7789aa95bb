//! Amounts of CPU and memory.

use super::super::super::{
    document::{Node, Value},
    reader::Reader,
    syntax,
};
use super::super::{ResourceAmounts, Resources};
use super::read_formed;

pub(super) fn read_resources(reader: &mut Reader, node: &Node, field: &str) -> Resources {
    let mut resources = Resources::default();
    let entries = reader.mapping(node, field, &["limits", "requests"]);
    for entry in &entries {
        let amounts = read_amounts(reader, &entry.node, &format!("{field}.{}", entry.key));
        match entry.key.as_str() {
            "limits" => resources.limits = amounts,
            "requests" => resources.requests = amounts,
            _ => {}
        }
    }
    let requests = entries.iter().find(|entry| entry.key == "requests");
    let Resources {
        limits,
        requests: asked,
    } = &resources;
    for (name, limit, request) in [
        ("cpu", &limits.cpu, &asked.cpu),
        ("memory", &limits.memory, &asked.memory),
    ] {
        if let (Some(limit), Some(request), Some(entry)) = (limit, request, requests)
            && syntax::amount(request) > syntax::amount(limit)
        {
            reader.problem(
                place_of(&entry.node, name).unwrap_or(&entry.node).place,
                &format!("{field}.requests.{name}"),
                format!("{request} is more than the limit"),
                &format!("at most {limit}"),
            );
        }
    }
    resources
}

fn place_of<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Value::Mapping(entries) = &node.value else {
        return None;
    };
    let found = entries.iter().find(|entry| entry.key == key);
    found.map(|entry| &entry.node)
}

fn read_amounts(reader: &mut Reader, node: &Node, field: &str) -> ResourceAmounts {
    let mut amounts = ResourceAmounts::default();
    for entry in reader.mapping(node, field, &["cpu", "memory"]) {
        let field = format!("{field}.{}", entry.key);
        let (place, example) = match entry.key.as_str() {
            "cpu" => (&mut amounts.cpu, "500m"),
            "memory" => (&mut amounts.memory, "512Mi"),
            _ => continue,
        };
        let in_quotes = format!("a quantity in quotes, such as \"{example}\"");
        let Some(text) = reader.text(&entry.node, &field, &in_quotes) else {
            continue;
        };
        let expected = syntax::amount_expected(text, example);
        *place = read_formed(reader, &entry.node, &field, &expected, |text| {
            syntax::amount(text).map(|_| text.to_owned())
        });
    }
    amounts
}
