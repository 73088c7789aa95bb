//! The schema that is published, against the parser.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::{document, reader::Reader, sections, *};

/// The file as JSON, as a person's editor sees it.
fn as_json(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn accepts(text: &str) -> bool {
    let schema = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    validator.is_valid(&as_json(text))
}

/// Every mapping with fixed keys in a schema, by its path.
fn mappings(
    schema: &Value,
    root: &Value,
    path: &str,
    found: &mut BTreeMap<String, BTreeSet<String>>,
) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(&reference[1..]).unwrap(),
        None => schema,
    };
    let below = |key: &str| match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    };
    if let Some(properties) = schema["properties"].as_object() {
        assert_eq!(schema["additionalProperties"], false, "{path}");
        found.insert(path.to_owned(), properties.keys().cloned().collect());
        for (key, value) in properties {
            mappings(value, root, &below(key), found);
        }
    }
    if schema["items"].is_object() {
        mappings(&schema["items"], root, &format!("{path}[0]"), found);
    }
}

#[test]
fn schema_and_parser_know_the_same_keys() {
    let text = include_str!("everything.yaml");
    let mut reader = Reader::default();
    let judged = sections::read_with(&mut reader, &document::read(text).unwrap());
    assert_eq!(judged.problems, []);
    let parser: BTreeMap<_, BTreeSet<_>> = reader
        .mappings
        .into_iter()
        // `agent: {}` and further items of lists.
        .filter(|(path, keys)| !keys.is_empty() && !path.contains("[1]"))
        .map(|(path, keys)| (path, keys.into_iter().collect()))
        .collect();
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut published = BTreeMap::new();
    mappings(&schema, &schema, "", &mut published);
    assert_eq!(published, parser);
}

#[test]
fn the_defaults_of_the_schema_are_the_parsers() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let usual = json!(ConfigurationFile::default());
    let section = |name: &str| &schema["properties"][name]["properties"];
    let logging = &section("observability")["logging"]["properties"];
    for (schema, usual, path) in [
        (logging, &usual["observability"]["logging"], "logging"),
        (
            section("remote_development"),
            &usual["remote_development"],
            "remote_development",
        ),
        (
            &section("remote_development")["gitlab_workspaces_proxy"]["properties"],
            &usual["remote_development"]["gitlab_workspaces_proxy"],
            "gitlab_workspaces_proxy",
        ),
        (
            &section("remote_development")["network_policy"]["properties"],
            &usual["remote_development"]["network_policy"],
            "network_policy",
        ),
    ] {
        for (key, value) in schema.as_object().unwrap() {
            let Some(default) = value.get("default") else {
                continue;
            };
            // -1 is kept as nothing.
            let usual = match &usual[key] {
                Value::Null => &json!(-1),
                usual => usual,
            };
            assert_eq!(default, usual, "{path}.{key}");
        }
    }
}

#[test]
fn both_judge_alike() {
    let section = |text: &str| format!("remote_development: {text}");
    let right = [
        "",
        "{}",
        "observability:",
        "observability: {logging: {level: warn, grpc_level: debug}, google_profiler: {}}",
        "user_access: {access_as: {user: {}}, projects: [{id: a/b}], groups: }",
        "ci_access: {anything: 1}",
    ];
    let right_sections = [
        "{enabled: 'true', dns_zone: '', default_runtime_class: '', shared_namespace: ''}",
        "{dns_zone: Example.com., workspaces_quota: -1, max_active_hours_before_stop: 8016}",
        "{network_policy: {egress: [{allow: 0.0.0.0/0, except: [10.0.0.0/8]}, {allow: 'fd00::/8'}, {allow: '::/0'}]}}",
        "{network_policy: {egress: []}, editors: [], classes: }",
        "{max_resources_per_workspace: {limits: {cpu: '.5', memory: 1.5Gi}, requests: {cpu: '1e-1', memory: '1e3'}}}",
        "{allow_privilege_escalation: true, use_kubernetes_user_namespaces: true}",
        "{allow_privilege_escalation: false}",
        "{shared_namespace: team, max_resources_per_workspace: {}, image_pull_secrets: [{name: a.b, namespace: team}]}",
        "{labels: {a: '', example.com/b_c: D-e}, annotations: {notgitlab.com/a: 'anything at all'}}",
        "{apply_changes: never, backend: native, full_sync_interval: 3}",
    ];
    let wrong = [
        "42",
        "[]",
        "remote_developement: {}",
        "observability: {logging: {level: loud}}",
        "observability: 1",
        "user_access: {access_as: {agent: {}, user: {}}}",
        "user_access: {access_as: {user: {a: 1}}}",
        "user_access: {projects: [{}]}",
    ];
    let wrong_sections = [
        "{enabled: 1}",
        "{enabled: 'yes'}",
        "{dns_zone: example-.com}",
        "{gitlab_workspaces_proxy: {namespace: ''}}",
        "{gitlab_workspaces_proxy: {http: true}}",
        "{network_policy: {egress: [{except: []}]}}",
        "{network_policy: {egress: [{allow: 10.0.0.1}]}}",
        "{network_policy: {egress: [{allow: 10.0.0.0/33}]}}",
        "{network_policy: {egress: {allow: 10.0.0.0/8}}}",
        "{max_resources_per_workspace: {limits: {cpu: 2}}}",
        "{max_resources_per_workspace: {limits: {memory: 1GB}}}",
        "{max_resources_per_workspace: {limits: {memory: '0'}}}",
        "{max_resources_per_workspace: {limits: {memory: '0.0Gi'}}}",
        "{max_resources_per_workspace: {limits: {gpu: '1'}}}",
        "{workspaces_quota: ten}",
        "{workspaces_quota: -2}",
        "{workspaces_per_user_quota: 1.5}",
        "{workspaces_quota: 2147483648}",
        "{default_runtime_class: gVisor}",
        "{allow_privilege_escalation: true}",
        "{allow_privilege_escalation: true, default_runtime_class: ''}",
        "{image_pull_secrets: [{name: a}]}",
        "{image_pull_secrets: [{name: A, namespace: b}]}",
        "{image_pull_secrets: [{name: a, namespace: b.c}]}",
        "{annotations: {gitlab.com/a: b}}",
        "{annotations: {a.kubernetes.io/a: b}}",
        "{annotations: {a: 1}}",
        "{annotations: [a]}",
        "{labels: {a b: c}}",
        "{labels: {a: b c}}",
        "{max_active_hours_before_stop: 0}",
        "{max_stopped_hours_before_termination: 8761}",
        "{shared_namespace: Team}",
        "{shared_namespace: team, max_resources_per_workspace: {limits: {cpu: '1'}}}",
        "{backend: kubernetes}",
        "{editors: [a, a]}",
        "{editors: code-server}",
        "{classes: [{name: a}]}",
        "{apply_changes: later}",
        "{workspace_quota: 1}",
    ];
    let sections = |texts: &[&str]| texts.iter().map(|it| section(it)).collect::<Vec<_>>();
    let whole = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let cases = [
        (true, [whole(&right), sections(&right_sections)].concat()),
        (false, [whole(&wrong), sections(&wrong_sections)].concat()),
    ];
    for (is_right, texts) in cases {
        for text in texts {
            assert_eq!(parse(&text).is_ok(), is_right, "the parser: {text}");
            assert_eq!(accepts(&text), is_right, "the schema: {text}");
        }
    }
    assert!(accepts(include_str!("everything.yaml")));
}
