//! Services and network policies.

use serde_json::Value;

use super::objects::selector;
use super::walk::{Fields, Walk, anything};

/// A Service inside the cluster, and nothing of the node's or of a cloud's.
pub(super) const SERVICE: &Fields = &[("spec", |walk, value| {
    if value["selector"].is_null() {
        let reason = "it has to select Pods of the workspace";
        walk.refuse_at("selector", "service-address", reason);
    }
    walk.fields(value, SERVICE_SPEC);
})];

const SERVICE_SPEC: &Fields = &[
    ("clusterIP", |walk, value| {
        if !matches!(value.as_str(), Some("" | "None")) {
            walk.refuse("service-address", "a workspace chooses no address");
        }
    }),
    ("internalTrafficPolicy", anything),
    ("ipFamilies", anything),
    ("ipFamilyPolicy", anything),
    ("ports", |walk, value| {
        const PORT: &Fields = &[
            ("appProtocol", anything),
            ("name", anything),
            ("port", anything),
            ("protocol", anything),
            ("targetPort", anything),
        ];
        walk.each(value, |walk, port| walk.fields(port, PORT));
    }),
    ("publishNotReadyAddresses", anything),
    ("selector", selector),
    ("sessionAffinity", anything),
    ("sessionAffinityConfig", anything),
    ("trafficDistribution", anything),
    ("type", |walk, value| {
        if value.as_str() != Some("ClusterIP") {
            walk.refuse("service-type", "it may only be ClusterIP");
        }
    }),
];

/// Policies add up: one that lets everything pass undoes all others.
pub(super) const POLICY: &Fields = &[("spec", |walk, value| {
    const SPEC: &Fields = &[
        ("egress", |walk, value| {
            walk.each(value, |walk, rule| direction(walk, rule, "to"))
        }),
        ("ingress", |walk, value| {
            walk.each(value, |walk, rule| direction(walk, rule, "from"))
        }),
        ("podSelector", |walk, value| {
            selector(walk, &value["matchLabels"])
        }),
        ("policyTypes", anything),
    ];
    walk.fields(value, SPEC);
})];

fn direction(walk: &mut Walk<'_>, rule: &Value, peers: &'static str) {
    if rule[peers].as_array().is_none_or(Vec::is_empty) {
        walk.refuse_at(
            peers,
            "open-network",
            "a rule without peers lets everybody pass; name them",
        );
    }
    match peers {
        "from" => walk.fields(
            rule,
            &[
                ("from", |walk, value| walk.each(value, source)),
                ("ports", anything),
            ],
        ),
        _ => walk.fields(
            rule,
            &[
                ("to", |walk, value| walk.each(value, target)),
                ("ports", anything),
            ],
        ),
    }
}

fn source(walk: &mut Walk<'_>, peer: &Value) {
    // From outside nobody comes but through the agent.
    peer_of(walk, peer, false);
}

fn target(walk: &mut Walk<'_>, peer: &Value) {
    // The world without its private parts is an ordinary target.
    peer_of(walk, peer, true);
}

fn peer_of(walk: &mut Walk<'_>, peer: &Value, with_exceptions: bool) {
    let names_none = |selector: &Value| {
        let parts = ["matchLabels", "matchExpressions"];
        parts.iter().all(|part| {
            let part = &selector[*part];
            part.as_object().is_none_or(serde_json::Map::is_empty)
                && part.as_array().is_none_or(Vec::is_empty)
        })
    };
    let namespaces = &peer["namespaceSelector"];
    if !namespaces.is_null() && names_none(namespaces) && names_none(&peer["podSelector"]) {
        walk.refuse(
            "open-network",
            "it means every Pod of the cluster; name a namespace or Pods",
        );
    }
    let range = &peer["ipBlock"];
    let is_everything = range["cidr"]
        .as_str()
        .is_some_and(|it| it.trim().ends_with("/0"));
    let has_exceptions = range["except"].as_array().is_some_and(|it| !it.is_empty());
    if is_everything && !(with_exceptions && has_exceptions) {
        let reason =
            "it means every address; leave out the private ones (except), or name a smaller range";
        walk.refuse_at("ipBlock", "open-network", reason);
    }
    const PEER: &Fields = &[
        ("ipBlock", anything),
        ("namespaceSelector", anything),
        ("podSelector", anything),
    ];
    walk.fields(peer, PEER);
}
