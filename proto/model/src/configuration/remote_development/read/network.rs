//! Who reaches workspaces, and what they reach.

use super::super::super::{document::Node, reader::Reader, syntax};
use super::super::{EgressRule, NetworkPolicy, WorkspacesProxy};
use super::{lists::check_size, read_formed, set};

pub(super) fn read_proxy(reader: &mut Reader, node: &Node, field: &str) -> WorkspacesProxy {
    let mut proxy = WorkspacesProxy::default();
    for entry in reader.mapping(node, field, &["http_enabled", "namespace", "ssh_enabled"]) {
        let field = format!("{field}.{}", entry.key);
        match entry.key.as_str() {
            "namespace" => set(
                &mut proxy.namespace,
                read_formed(reader, &entry.node, &field, syntax::DNS_LABEL, |text| {
                    syntax::is_dns_label(text).then(|| text.to_owned())
                }),
            ),
            "http_enabled" => set(&mut proxy.http_enabled, reader.boolean(&entry.node, &field)),
            "ssh_enabled" => set(&mut proxy.ssh_enabled, reader.boolean(&entry.node, &field)),
            _ => {}
        }
    }
    proxy
}

pub(super) fn read_network_policy(reader: &mut Reader, node: &Node, field: &str) -> NetworkPolicy {
    let mut policy = NetworkPolicy::default();
    for entry in reader.mapping(node, field, &["egress", "enabled"]) {
        let field = format!("{field}.{}", entry.key);
        match entry.key.as_str() {
            "enabled" => set(&mut policy.enabled, reader.boolean(&entry.node, &field)),
            "egress" => policy.egress = read_egress(reader, &entry.node, &field),
            _ => {}
        }
    }
    policy
}

fn read_egress(reader: &mut Reader, node: &Node, field: &str) -> Vec<EgressRule> {
    const EXPECTED: &str = "a list of {allow: range, except: [ranges]}";
    let mut rules = Vec::new();
    for (index, item) in reader.list(node, field, EXPECTED).iter().enumerate() {
        let field = format!("{field}[{index}]");
        let (mut allow, mut except) = (None, Vec::new());
        let entries = reader.mapping(item, &field, &["allow", "except"]);
        let find = |key: &str| entries.iter().find(|entry| entry.key == key);
        match find("allow") {
            Some(entry) => allow = read_range(reader, &entry.node, &format!("{field}.allow")),
            None => reader.problem(
                item.place,
                &field,
                "the key allow is missing".into(),
                "allow: a range in CIDR form",
            ),
        }
        if let Some(entry) = find("except") {
            let field = format!("{field}.except");
            let items = reader.list(&entry.node, &field, "a list of ranges in CIDR form");
            for (index, item) in items.iter().enumerate() {
                let field = format!("{field}[{index}]");
                let Some(range) = read_range(reader, item, &field) else {
                    continue;
                };
                // Kubernetes refuses a policy where it is not.
                if let Some(allow) = allow
                    && (allow == range || !allow.contains(&range))
                {
                    let reason = format!("{range} is not within {allow}");
                    reader.problem(item.place, &field, reason, "a smaller range within allow");
                }
                except.push(range.to_string());
            }
        }
        if let Some(allow) = allow {
            rules.push(EgressRule {
                allow: allow.to_string(),
                except,
            });
        }
    }
    check_size(reader, node, field, &rules);
    rules
}

fn read_range(reader: &mut Reader, node: &Node, field: &str) -> Option<ipnet::IpNet> {
    let text = reader.text(node, field, syntax::RANGE)?;
    read_formed(
        reader,
        node,
        field,
        &syntax::range_expected(text),
        syntax::range,
    )
}
