use super::super::*;

fn read(text: &str) -> RemoteDevelopment {
    parse(text).unwrap().configuration.remote_development
}

/// The problems of a section, each as `field: reason; expected …`.
fn problems(section: &str) -> Vec<String> {
    let lines = section.lines().map(|line| format!("  {line}\n"));
    let text = format!("remote_development:\n{}", lines.collect::<String>());
    let problems = parse(&text).expect_err(section);
    let shown = problems.iter().map(|problem| {
        let field = problem.field.strip_prefix("remote_development.");
        let field = field.unwrap_or(&problem.field);
        format!("{field}: {}; expected {}", problem.reason, problem.expected)
    });
    shown.collect()
}

const EVERYTHING: &str = include_str!("everything.yaml");

#[test]
fn without_it_gitlabs_defaults_hold() {
    let RemoteDevelopment {
        enabled,
        dns_zone,
        gitlab_workspaces_proxy,
        network_policy,
        workspaces_quota,
        max_active_hours_before_stop,
        max_stopped_hours_before_termination,
        ..
    } = read("");
    assert!(!enabled && dns_zone.is_empty() && network_policy.enabled);
    assert_eq!(gitlab_workspaces_proxy.namespace, "gitlab-workspaces");
    assert!(gitlab_workspaces_proxy.http_enabled && gitlab_workspaces_proxy.ssh_enabled);
    assert_eq!(network_policy.egress.len(), 1);
    assert_eq!(network_policy.egress[0].allow, "0.0.0.0/0");
    assert_eq!(network_policy.egress[0].except.len(), 3);
    assert_eq!(workspaces_quota, None);
    assert_eq!(
        (
            max_active_hours_before_stop,
            max_stopped_hours_before_termination
        ),
        (36, 744)
    );
    for empty in [
        "remote_development:",
        "remote_development: {}",
        "remote_development: {network_policy: {}, max_resources_per_workspace: {}, labels: }",
    ] {
        assert_eq!(read(empty), RemoteDevelopment::default(), "{empty}");
    }
}

#[test]
fn every_key_is_read() {
    let text = |texts: &[(&str, &str)]| {
        texts
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let amounts = |cpu: &str, memory: &str| ResourceAmounts {
        cpu: Some(cpu.into()),
        memory: Some(memory.into()),
    };
    let resources = |limits: (&str, &str), requests: (&str, &str)| Resources {
        limits: amounts(limits.0, limits.1),
        requests: amounts(requests.0, requests.1),
    };
    let parsed = parse(EVERYTHING).unwrap();
    let expected = RemoteDevelopment {
        enabled: true,
        dns_zone: "workspaces.example.com".into(),
        gitlab_workspaces_proxy: WorkspacesProxy {
            namespace: "proxy".into(),
            http_enabled: true,
            ssh_enabled: false,
        },
        network_policy: NetworkPolicy {
            enabled: true,
            egress: vec![
                EgressRule {
                    allow: "0.0.0.0/0".into(),
                    except: vec!["10.0.0.0/8".into()],
                },
                EgressRule {
                    allow: "fd00::/8".into(),
                    except: Vec::new(),
                },
            ],
        },
        default_resources_per_workspace_container: resources(("1.5", "786M"), ("0.6", "512M")),
        max_resources_per_workspace: resources(("3", "2Gi"), ("2", "1Gi")),
        workspaces_quota: Some(10),
        workspaces_per_user_quota: Some(0),
        use_kubernetes_user_namespaces: false,
        default_runtime_class: "gvisor".into(),
        allow_privilege_escalation: true,
        image_pull_secrets: vec![ImagePullSecret {
            name: "registry".into(),
            namespace: "images".into(),
        }],
        annotations: text(&[("example.com/contact", "Ada <ada@example.com>")]),
        labels: text(&[("cost-center", "42")]),
        max_active_hours_before_stop: 8,
        max_stopped_hours_before_termination: 8752,
        shared_namespace: String::new(),
        backend: Some(Backend::DevWorkspace),
        editors: Some(vec!["gitlab-vscode".into(), "none".into()]),
        classes: vec![Class {
            name: "large".into(),
            resources: resources(("8", "16Gi"), ("4", "8Gi")),
        }],
        apply_changes: ApplyChanges::Now,
    };
    assert_eq!(parsed.configuration.remote_development, expected);
    let fields = parsed.notes.iter().map(|it| it.field.as_str());
    let notes: Vec<_> = fields
        .filter(|it| it.starts_with("remote_development"))
        .collect();
    assert_eq!(
        notes,
        [
            "remote_development.partial_sync_interval",
            "remote_development.full_sync_interval",
            "remote_development.default_max_hours_before_termination",
            "remote_development.max_hours_before_termination_limit",
        ]
    );
    let stored = serde_json::to_string(&parsed.configuration).unwrap();
    let back: ConfigurationFile = serde_json::from_str(&stored).unwrap();
    assert_eq!(back, parsed.configuration);
}

#[test]
fn numbers_at_their_ends() {
    let section = read(
        "remote_development: {enabled: 'true', workspaces_quota: -1, workspaces_per_user_quota: 0, max_active_hours_before_stop: 1, max_stopped_hours_before_termination: 8759}",
    );
    assert!(section.enabled, "as GitLab takes the text");
    assert_eq!(section.workspaces_quota, None);
    assert_eq!(section.workspaces_per_user_quota, Some(0));
    assert_eq!(section.max_stopped_hours_before_termination, 8759);
}

#[test]
fn wrong_values_say_what_would_be_right() {
    for (section, expected) in [
        (
            "enabled: 1",
            "enabled: this is a number; expected true or false",
        ),
        (
            "enabled: yes",
            "enabled: this is a text; expected true or false",
        ),
        (
            "dns_zone: example-.com",
            "dns_zone: 'example-.com' is not that; expected a DNS name",
        ),
        ("dns_zone: 7", "dns_zone: this is a number"),
        (
            "gitlab_workspaces_proxy: {namespace: A}",
            "gitlab_workspaces_proxy.namespace: 'A'",
        ),
        (
            "gitlab_workspaces_proxy: {http: true}",
            "gitlab_workspaces_proxy.http: the key is not known",
        ),
        (
            "network_policy: {enabled: maybe}",
            "network_policy.enabled: this is a text",
        ),
        (
            "network_policy: {egress: [{allow: 10.0.0.0/33}]}",
            "network_policy.egress[0].allow: '10.0.0.0/33'",
        ),
        (
            "network_policy: {egress: [{allow: 10.0.0.1}]}",
            "network_policy.egress[0].allow: '10.0.0.1' is not that; expected a range in CIDR form, such as 10.0.0.0/8 or fd00::/8; one address is 10.0.0.1/32",
        ),
        (
            "network_policy: {egress: [{except: [10.0.0.0/8]}]}",
            "network_policy.egress[0]: the key allow is missing",
        ),
        (
            "network_policy: {egress: [{allow: 10.0.0.0/8, except: [11.0.0.0/9]}]}",
            "network_policy.egress[0].except[0]: 11.0.0.0/9 is not within 10.0.0.0/8",
        ),
        (
            "network_policy: {egress: [{allow: 10.0.0.0/8, except: [10.0.0.0/8]}]}",
            "network_policy.egress[0].except[0]: 10.0.0.0/8 is not within 10.0.0.0/8",
        ),
        (
            "network_policy: {egress: {allow: 10.0.0.0/8}}",
            "network_policy.egress: this is a mapping; expected a list of {allow: range, except: [ranges]}",
        ),
        (
            "max_resources_per_workspace: {limits: {cpu: 2}}",
            "max_resources_per_workspace.limits.cpu: this is a number; expected a quantity in quotes, such as \"500m\"",
        ),
        (
            "max_resources_per_workspace: {limits: {memory: 1GB}}",
            "max_resources_per_workspace.limits.memory: '1GB' is not that; expected a quantity; perhaps 1G",
        ),
        (
            "max_resources_per_workspace: {limits: {memory: '0'}}",
            "max_resources_per_workspace.limits.memory: '0' is not that; expected a quantity above zero, such as 512Mi",
        ),
        (
            "max_resources_per_workspace: {limits: {gpu: '1'}}",
            "max_resources_per_workspace.limits.gpu: the key is not known; expected 'cpu'",
        ),
        (
            "default_resources_per_workspace_container: {limits: {cpu: '1'}, requests: {cpu: 1001m}}",
            "default_resources_per_workspace_container.requests.cpu: 1001m is more than the limit; expected at most 1",
        ),
        (
            "workspaces_quota: \"ten\"",
            "workspaces_quota: this is a text; expected a whole number from 0, or -1",
        ),
        (
            "workspaces_quota: -2",
            "workspaces_quota: -2 is out of range",
        ),
        (
            "workspaces_per_user_quota: 1.5",
            "workspaces_per_user_quota: this is no whole number",
        ),
        (
            "workspaces_per_user_quota: 99999999999999999999",
            "workspaces_per_user_quota: this is no whole number",
        ),
        (
            "default_runtime_class: gVisor",
            "default_runtime_class: 'gVisor' is not that",
        ),
        (
            "allow_privilege_escalation: true",
            "allow_privilege_escalation: nothing keeps an escalated process from the node",
        ),
        (
            "image_pull_secrets: [{name: a}]",
            "image_pull_secrets[0]: the key namespace is missing",
        ),
        (
            "image_pull_secrets: [{name: A, namespace: b}]",
            "image_pull_secrets[0].name: 'A'",
        ),
        (
            "image_pull_secrets: [{name: a, namespace: b.c}]",
            "image_pull_secrets[0].namespace: 'b.c'",
        ),
        (
            "image_pull_secrets: [{name: a, namespace: b}, {name: a, namespace: c}]",
            "image_pull_secrets[1].name: 'a' stands in the list already",
        ),
        (
            "annotations: {gitlab.com/a: b}",
            "annotations.gitlab.com/a: keys of gitlab.com have a meaning of their own",
        ),
        (
            "annotations: {a: 1}",
            "annotations.a: this is a number; expected a text; write it in quotes",
        ),
        ("annotations: [a]", "annotations: this is a list"),
        (
            "labels: {app.kubernetes.io/name: b}",
            "labels.app.kubernetes.io/name: keys of kubernetes.io",
        ),
        ("labels: {a b: c}", "labels.a b: the key is not that"),
        (
            "labels: {a: 'b c'}",
            "labels.a: 'b c' is no value of a label",
        ),
        (
            "max_active_hours_before_stop: 0",
            "max_active_hours_before_stop: 0 is out of range; expected hours, a whole number from 1 to 8760",
        ),
        (
            "max_stopped_hours_before_termination: 8761",
            "max_stopped_hours_before_termination: 8761 is out of range",
        ),
        (
            "max_active_hours_before_stop: 8760",
            "max_active_hours_before_stop: 8760 hours active and 744 hours stopped are 9504 together; expected together at most 8760 (a year)",
        ),
        (
            "shared_namespace: Team",
            "shared_namespace: 'Team' is not that",
        ),
        (
            "{shared_namespace: team, max_resources_per_workspace: {limits: {cpu: '1'}}}",
            "max_resources_per_workspace: a quota holds for a whole namespace",
        ),
        (
            "{shared_namespace: team, image_pull_secrets: [{name: a, namespace: other}]}",
            "image_pull_secrets[0].namespace: 'other' is not the shared_namespace; expected team",
        ),
        (
            "backend: kubernetes",
            "backend: 'kubernetes' is not that; expected one of native, devworkspace",
        ),
        ("editors: code-server", "editors: this is a text"),
        (
            "editors: [a, a]",
            "editors[1]: 'a' stands in the list already",
        ),
        (
            "classes: [{name: a}]",
            "classes[0]: the key resources is missing",
        ),
        (
            "classes: [{name: a, resources: {}}, {name: a, resources: {}}]",
            "classes[1].name: 'a' stands in the list already",
        ),
        (
            "apply_changes: later",
            "apply_changes: 'later' is not that; expected one of now, on_restart, never",
        ),
        (
            "workspace_quota: 1",
            "workspace_quota: the key is not known; expected 'workspaces_quota' (did you mean that?)",
        ),
    ] {
        let found = problems(section);
        assert_eq!(found.len(), 1, "{section}: {found:#?}");
        assert!(
            found[0].starts_with(expected),
            "{section}\n is: {}",
            found[0]
        );
    }
}

#[test]
fn places_are_those_of_the_values() {
    let text = "remote_development:\n  default_resources_per_workspace_container:\n    limits: {memory: 1Gi}\n    requests:\n      memory: 2Gi\n";
    let problem = &parse(text).expect_err("too much")[0];
    assert_eq!((problem.line, problem.column), (5, 15));
    let text = "remote_development:\n  shared_namespace: a\n  image_pull_secrets:\n  - name: x\n    namespace: b\n";
    let problem = &parse(text).expect_err("elsewhere")[0];
    assert_eq!((problem.line, problem.column), (5, 16));
}

#[test]
fn combinations_that_are_right() {
    for section in [
        "{allow_privilege_escalation: true, use_kubernetes_user_namespaces: true}",
        "{allow_privilege_escalation: true, default_runtime_class: kata}",
        "{shared_namespace: team, max_resources_per_workspace: {}, image_pull_secrets: [{name: a, namespace: team}]}",
        "{network_policy: {egress: []}}",
        "{editors: []}",
        "{max_active_hours_before_stop: 8016}",
        "{labels: {a: ''}}",
    ] {
        let text = format!("remote_development: {section}");
        assert!(parse(&text).is_ok(), "{section}: {:?}", parse(&text));
    }
}

#[test]
fn lists_and_texts_have_a_largest_size() {
    let value = "x".repeat(40 * 1024);
    let found = problems(&format!("annotations: {{a: '{value}', b: '{value}'}}"));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("expected at most 65536 bytes"),
        "{}",
        found[0]
    );
    let names: Vec<_> = (0..51).map(|n| format!("e{n}")).collect();
    let found = problems(&format!("editors: [{}]", names.join(", ")));
    assert_eq!(found, ["editors: there are 51; expected at most 50"]);
}
