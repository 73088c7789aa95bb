//! The rows of DECISIONS.md that no file of the corpus shows.

use devfile::flatten::FlattenOptions;
use devfile::validate::Rules;

use crate::{library, read, read_with, told};

#[test]
fn float_version() {
    let found = read("schemaVersion: 2.2\n");
    assert_eq!(told(&found), ["wrong-type schemaVersion 1:16"]);
    assert_eq!(
        found.diagnostics[0].hint.as_deref(),
        Some("2.2 is a number; versions have three parts, as 2.2.0")
    );
}

const NO_DEFAULT: &str = "schemaVersion: 2.2.0
components: [{name: c, container: {image: i}}]
commands:
- {id: a, exec: {component: c, commandLine: x, group: {kind: run}}}
- {id: b, exec: {component: c, commandLine: x, group: {kind: run, isDefault: false}}}
";

#[test]
fn missing_default() {
    let found = read(NO_DEFAULT);
    assert_eq!(
        told(&found),
        ["group-default-missing commands[0].exec.group 4:55"]
    );
    assert!(!found.has_errors());
    assert!(read_with(NO_DEFAULT, &library(), &[]).has_errors());
}

#[test]
fn events_in_order() {
    let found = read_with(
        "schemaVersion: 2.2.0
parent: {uri: p.yaml}
commands:
- {id: z, exec: {component: c, commandLine: x}}
- {id: a, exec: {component: c, commandLine: x}}
events: {postStart: [z, a, p, z]}
",
        &FlattenOptions::default(),
        &[(
            "/w/p.yaml",
            "schemaVersion: 2.2.0\ncomponents: [{name: c, container: {image: i}}]\ncommands: [{id: p, exec: {component: c, commandLine: x}}]\nevents: {postStart: [p]}\n",
        )],
    );
    assert_eq!(told(&found), Vec::<String>::new());
    assert_eq!(
        found.devfile.unwrap().events.unwrap().post_start,
        ["p", "z", "a"]
    );
}

#[test]
fn composite_case() {
    let found = read(
        "schemaVersion: 2.2.0
components: [{name: c, container: {image: i}}]
commands:
- {id: a, exec: {component: c, commandLine: x}}
- {id: b, composite: {commands: [A]}}
- {id: d, composite: {commands: [B, b]}}
",
    );
    assert_eq!(told(&found), Vec::<String>::new());
}

#[test]
fn keys_as_written() {
    let found = read("schemaVersion: 2.2.0\nattributes: {on: 1, 010: 2, 10: 3, \"yes\": 4}\n");
    assert_eq!(
        told(&found),
        [
            "ambiguous-key attributes.on 2:14",
            "ambiguous-key attributes.010 2:21"
        ]
    );
    let attributes = found.devfile.unwrap().attributes;
    let keys: Vec<&String> = attributes.keys().collect();
    assert_eq!(keys, ["010", "10", "on", "yes"]);
}

#[test]
fn merge_keys() {
    let found = read(
        "schemaVersion: 2.2.0\nattributes:\n  base: &b {x: base, y: base}\n  c: {x: own, <<: *b}\n  d: {<<: [{x: first}, *b]}\n",
    );
    assert_eq!(told(&found), Vec::<String>::new());
    let attributes = found.devfile.unwrap().attributes;
    assert_eq!(
        attributes["c"],
        serde_json::json!({"x": "own", "y": "base"})
    );
    assert_eq!(
        attributes["d"],
        serde_json::json!({"x": "first", "y": "base"})
    );
}

#[test]
fn remote_keys() {
    let text = "schemaVersion: 2.2.0\nvariables: {a: '{{b}}', b: z}\nprojects:\n- {name: p, git: {remotes: {'o{{a}}': x}}}\n";
    let found = read(text);
    let json = found.tree.unwrap().to_json();
    assert_eq!(
        json["projects"][0]["git"]["remotes"],
        serde_json::json!({"o{{b}}": "x"})
    );
}

#[test]
fn not_finite() {
    let found = read("schemaVersion: 2.2.0\nattributes: {a: .inf}\n");
    assert_eq!(told(&found), ["number-not-finite  2:17"]);
}

#[test]
fn empty_overrides() {
    let found = read_with(
        "schemaVersion: 2.2.0\nparent: {uri: p.yaml, components: [{name: c, container: {args: [], memoryLimit: ''}}]}\n",
        &FlattenOptions::default(),
        &[(
            "/w/p.yaml",
            "schemaVersion: 2.2.0\ncomponents: [{name: c, container: {image: i, args: [a], memoryLimit: 1Gi}}]\n",
        )],
    );
    let codes: Vec<&str> = found.diagnostics.iter().map(|d| d.code.name()).collect();
    assert_eq!(codes, ["override-empty", "override-empty"]);
    let devfile = found.devfile.unwrap();
    let (_, container) = devfile.containers().next().unwrap();
    assert_eq!(container.args, ["a"]);
    assert_eq!(container.memory_limit.as_deref(), Some("1Gi"));
}

#[test]
fn dedicated_ports() {
    let found = read(
        "schemaVersion: 2.2.0
components:
- {name: a, container: {image: i, endpoints: [{name: a, targetPort: 80}]}}
- {name: b, container: {image: i, dedicatedPod: true, endpoints: [{name: b, targetPort: 80}]}}
",
    );
    assert_eq!(
        told(&found),
        ["endpoint-port-shared components[1].container.endpoints[0].targetPort 4:89"]
    );
}

#[test]
fn parent_top_level() {
    let found = read_with(
        "schemaVersion: 2.2.0\nparent: {uri: p.yaml}\nattributes: {k: ephemeral}\n",
        &FlattenOptions::default(),
        &[(
            "/w/p.yaml",
            "schemaVersion: 2.2.0\nattributes: {k: ephemeral}\n",
        )],
    );
    assert_eq!(told(&found), ["merge-conflict attributes.k 3:17"]);
}

#[test]
fn no_variables_in_attributes() {
    let found = read(
        "schemaVersion: 2.2.0\nvariables: {a: x}\nattributes: {pod-overrides: {spec: {serviceAccountName: '{{a}}'}}}\n",
    );
    assert_eq!(
        told(&found),
        ["unresolved-variable attributes.pod-overrides 3:29"]
    );
}

#[test]
fn variables_once() {
    for (text, expected) in [("x{{a}}y{{b}}", "xcyc"), ("x{{b}}y{{a}}", "xcy{{b}}")] {
        let found = read_with(
            &format!(
                "schemaVersion: 2.2.0\nvariables: {{a: '{{{{b}}}}', b: c}}\ncomponents: [{{name: c, container: {{image: '{text}'}}}}]\n"
            ),
            &FlattenOptions {
                rules: Rules::LIBRARY,
                ..FlattenOptions::default()
            },
            &[],
        );
        let devfile = found.devfile.unwrap();
        assert_eq!(devfile.containers().next().unwrap().1.image, expected);
    }
}

#[test]
fn build_metadata() {
    let found = read("schemaVersion: 2.2.0+b1\n");
    assert_eq!(told(&found), ["schema-version-unknown schemaVersion 1:16"]);
    assert!(!read("schemaVersion: 2.2.0-latest\n").has_errors());
}

#[test]
fn every_decision_without_a_case_has_a_test() {
    let table = include_str!("../../DECISIONS.md");
    let tests = concat!(
        include_str!("decisions.rs"),
        include_str!("flattening.rs"),
        include_str!("render.rs"),
        include_str!("diagnostics.rs")
    );
    let elsewhere = [
        (
            "relative-address",
            "parents_nest_and_relative_references_start_at_their_document",
        ),
        (
            "relative-to-its-document",
            "parents_nest_and_relative_references_start_at_their_document",
        ),
        (
            "negative-quantities",
            "what_only_the_cluster_would_refuse_is_told_before",
        ),
    ];
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`');
        if !cells.last().unwrap().is_empty() {
            continue;
        }
        let function = elsewhere
            .iter()
            .find(|(decision, _)| *decision == name)
            .map_or_else(|| name.replace('-', "_"), |(_, test)| (*test).to_owned());
        assert!(
            tests.contains(&format!("fn {function}()")),
            "{name} has no test"
        );
    }
}
