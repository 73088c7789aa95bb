//! Section `remote_development`, from the tree to what it means.

mod lists;
mod network;
mod resources;

use super::super::{
    document::{Entry, Node, Value},
    reader::{Reader, shorten},
    syntax,
};
use super::{ApplyChanges, Backend, RemoteDevelopment, Resources};
use lists::{read_classes, read_editors, read_pull_secrets, read_texts};
use network::{read_network_policy, read_proxy};
use resources::read_resources;

const SECTION: &str = "remote_development";

const KEYS: [&str; 25] = [
    "allow_privilege_escalation",
    "annotations",
    "apply_changes",
    "backend",
    "classes",
    "default_max_hours_before_termination",
    "default_resources_per_workspace_container",
    "default_runtime_class",
    "dns_zone",
    "editors",
    "enabled",
    "full_sync_interval",
    "gitlab_workspaces_proxy",
    "image_pull_secrets",
    "labels",
    "max_active_hours_before_stop",
    "max_hours_before_termination_limit",
    "max_resources_per_workspace",
    "max_stopped_hours_before_termination",
    "network_policy",
    "partial_sync_interval",
    "shared_namespace",
    "use_kubernetes_user_namespaces",
    "workspaces_per_user_quota",
    "workspaces_quota",
];

/// Largest quota: GitLab keeps it in 32 bits.
const MAX_QUOTA: i64 = i32::MAX as i64;

/// What the section means.
pub(in super::super) fn read(reader: &mut Reader, node: &Node) -> RemoteDevelopment {
    let mut section = RemoteDevelopment::default();
    let entries = reader.mapping(node, SECTION, &KEYS);
    for entry in &entries {
        read_entry(reader, entry, &mut section);
    }
    check_together(reader, &entries, &section);
    section
}

fn read_entry(reader: &mut Reader, entry: &Entry, section: &mut RemoteDevelopment) {
    let node = &entry.node;
    let field = format!("{SECTION}.{}", entry.key);
    let field = field.as_str();
    match entry.key.as_str() {
        "enabled" => set(&mut section.enabled, read_enabled(reader, node, field)),
        "dns_zone" => set(
            &mut section.dns_zone,
            read_empty_or(reader, node, field, syntax::ZONE, syntax::zone),
        ),
        "gitlab_workspaces_proxy" => {
            section.gitlab_workspaces_proxy = read_proxy(reader, node, field)
        }
        "network_policy" => section.network_policy = read_network_policy(reader, node, field),
        "default_resources_per_workspace_container" => {
            section.default_resources_per_workspace_container = read_resources(reader, node, field)
        }
        "max_resources_per_workspace" => {
            section.max_resources_per_workspace = read_resources(reader, node, field)
        }
        "workspaces_quota" => set(&mut section.workspaces_quota, read_quota(reader, node, field)),
        "workspaces_per_user_quota" => set(
            &mut section.workspaces_per_user_quota,
            read_quota(reader, node, field),
        ),
        "use_kubernetes_user_namespaces" => set(
            &mut section.use_kubernetes_user_namespaces,
            reader.boolean(node, field),
        ),
        "default_runtime_class" => set(
            &mut section.default_runtime_class,
            read_empty_or(reader, node, field, syntax::DNS_NAME, |text| {
                syntax::is_dns_name(text).then(|| text.to_owned())
            }),
        ),
        "allow_privilege_escalation" => set(
            &mut section.allow_privilege_escalation,
            reader.boolean(node, field),
        ),
        "image_pull_secrets" => {
            section.image_pull_secrets = read_pull_secrets(reader, node, field)
        }
        "annotations" => section.annotations = read_texts(reader, node, field, |_| true),
        "labels" => section.labels = read_texts(reader, node, field, syntax::is_label_value),
        "max_active_hours_before_stop" => set(
            &mut section.max_active_hours_before_stop,
            read_hours(reader, node, field),
        ),
        "max_stopped_hours_before_termination" => set(
            &mut section.max_stopped_hours_before_termination,
            read_hours(reader, node, field),
        ),
        "shared_namespace" => set(
            &mut section.shared_namespace,
            read_empty_or(reader, node, field, syntax::DNS_LABEL, |text| {
                syntax::is_dns_label(text).then(|| text.to_owned())
            }),
        ),
        "backend" => section.backend = read_choice(reader, node, field, &Backend::ALL),
        "editors" => section.editors = Some(read_editors(reader, node, field)),
        "classes" => section.classes = read_classes(reader, node, field),
        "apply_changes" => set(
            &mut section.apply_changes,
            read_choice(reader, node, field, &ApplyChanges::ALL),
        ),
        "partial_sync_interval" | "full_sync_interval" => reader.note(
            field,
            "without effect: changes are sent at once, and how often an agent asks is the server's setting (GitLab left it out too)",
        ),
        "default_max_hours_before_termination" | "max_hours_before_termination_limit" => reader
            .note(
                field,
                "without effect: max_active_hours_before_stop and max_stopped_hours_before_termination took its place",
            ),
        _ => {}
    }
}

/// What single keys cannot tell.
fn check_together(reader: &mut Reader, entries: &[&Entry], section: &RemoteDevelopment) {
    let at = |key: &str| entries.iter().find(|entry| entry.key == key);
    let RemoteDevelopment {
        max_active_hours_before_stop: active,
        max_stopped_hours_before_termination: stopped,
        ..
    } = section;
    let both = active + stopped;
    let hours =
        at("max_stopped_hours_before_termination").or_else(|| at("max_active_hours_before_stop"));
    if let Some(entry) = hours
        && both > RemoteDevelopment::MAX_HOURS
    {
        reader.problem(
            entry.node.place,
            &format!("{SECTION}.{}", entry.key),
            format!("{active} hours active and {stopped} hours stopped are {both} together"),
            "together at most 8760 (a year)",
        );
    }
    if let Some(entry) = at("allow_privilege_escalation")
        && section.allow_privilege_escalation
        && !section.use_kubernetes_user_namespaces
        && section.default_runtime_class.is_empty()
    {
        reader.problem(
            entry.node.place,
            "remote_development.allow_privilege_escalation",
            "nothing keeps an escalated process from the node".into(),
            "use_kubernetes_user_namespaces: true or a default_runtime_class beside it, or false",
        );
    }
    if section.shared_namespace.is_empty() {
        return;
    }
    if let Some(entry) = at("max_resources_per_workspace")
        && section.max_resources_per_workspace != Resources::default()
    {
        reader.problem(
            entry.node.place,
            "remote_development.max_resources_per_workspace",
            "a quota holds for a whole namespace, and all workspaces share one".into(),
            "{} with a shared_namespace",
        );
    }
    let Some(Value::List(items)) = at("image_pull_secrets").map(|entry| &entry.node.value) else {
        return;
    };
    for (index, item) in items.iter().enumerate() {
        let Value::Mapping(entries) = &item.value else {
            continue;
        };
        let namespace = entries.iter().find(|entry| entry.key == "namespace");
        if let Some(Entry { node, .. }) = namespace
            && let Value::Text(namespace) = &node.value
            && *namespace != section.shared_namespace
        {
            reader.problem(
                node.place,
                &format!("{SECTION}.image_pull_secrets[{index}].namespace"),
                format!("'{}' is not the shared_namespace", shorten(namespace)),
                &format!("{}, where the workspaces are", section.shared_namespace),
            );
        }
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// GitLab takes the text "true" here as well.
fn read_enabled(reader: &mut Reader, node: &Node, field: &str) -> Option<bool> {
    match &node.value {
        Value::Text(text) if text == "true" => Some(true),
        Value::Text(text) if text == "false" => Some(false),
        _ => reader.boolean(node, field),
    }
}

/// An empty text, or one with the right form.
fn read_empty_or(
    reader: &mut Reader,
    node: &Node,
    field: &str,
    expected: &str,
    right: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    match reader.text(node, field, expected)? {
        "" => Some(String::new()),
        _ => read_formed(reader, node, field, expected, right),
    }
}

fn read_formed<T>(
    reader: &mut Reader,
    node: &Node,
    field: &str,
    expected: &str,
    right: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let text = reader.text(node, field, expected)?;
    let value = right(text);
    if value.is_none() {
        let reason = format!("'{}' is not that", shorten(text));
        reader.problem(node.place, field, reason, expected);
    }
    value
}

fn read_hours(reader: &mut Reader, node: &Node, field: &str) -> Option<u32> {
    let range = 1..=i64::from(RemoteDevelopment::MAX_HOURS);
    let hours = reader.whole(node, field, range, "hours, a whole number from 1 to 8760")?;
    u32::try_from(hours).ok()
}

/// `Some(None)`: any number.
fn read_quota(reader: &mut Reader, node: &Node, field: &str) -> Option<Option<u32>> {
    let expected = "a whole number from 0, or -1 for any number of workspaces";
    let quota = reader.whole(node, field, -1..=MAX_QUOTA, expected)?;
    Some(u32::try_from(quota).ok())
}

/// One of a few words.
fn read_choice<T: Copy>(
    reader: &mut Reader,
    node: &Node,
    field: &str,
    choices: &[(&'static str, T)],
) -> Option<T> {
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    let expected = format!("one of {}", names.join(", "));
    read_formed(reader, node, field, &expected, |text| {
        let found = choices.iter().find(|(name, _)| *name == text);
        found.map(|(_, choice)| *choice)
    })
}
