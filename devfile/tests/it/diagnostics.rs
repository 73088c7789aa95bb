use devfile::Severity;

use crate::{read, told};

const MANY: &str = "schemaVersion: 2.2.0
metadata: {name: a, version: 1.0}
components:
  - name: tools
    container:
      imag: x
      memoryLimit: 1024
      env:
        - {name: A, value: yes}
        - {name: B, value: 010}
      endpoints:
        - {name: a, targetPort: '80', exposure: publc}
  - name: Bad_Name
    volume:
  - name: both
    container: {image: x}
    volume: {}
comands: []
";

#[test]
fn all_problems_come_at_once_each_at_its_place_with_a_hint() {
    let found = read(MANY);
    assert_eq!(
        told(&found),
        [
            "wrong-type metadata.version 2:30",
            "missing-field components[0].container 6:7",
            "unknown-field components[0].container.imag 6:7",
            "wrong-type components[0].container.memoryLimit 7:20",
            "wrong-type components[0].container.env[0].value 9:28",
            "wrong-type components[0].container.env[1].value 10:28",
            "wrong-type components[0].container.endpoints[0].targetPort 12:33",
            "value-not-allowed components[0].container.endpoints[0].exposure 12:49",
            "pattern-mismatch components[1].name 13:11",
            "wrong-type components[1].volume 14:11",
            "one-of-several components[2] 17:5",
            "unknown-field comands 18:1",
        ]
    );
    let hint = |at: usize| found.diagnostics[at].hint.as_deref().unwrap_or_default();
    assert_eq!(hint(0), "1.0 without quotes is the number 1; write \"1.0\"");
    assert_eq!(hint(2), "did you mean image?");
    assert_eq!(hint(3), "put quotes around it: \"1024\"");
    assert_eq!(
        hint(4),
        "yes without quotes is a boolean in YAML 1.1; write \"yes\""
    );
    assert_eq!(hint(5), "010 without quotes is the number 8; write \"010\"");
    assert_eq!(hint(6), "write 80 without quotes");
    assert_eq!(hint(7), "did you mean public?");
    assert_eq!(hint(8), "did you mean bad-name?");
    assert_eq!(hint(11), "did you mean commands?");
    assert_eq!(
        found.diagnostics[4].excerpt.as_deref(),
        Some("9 |         - {name: A, value: yes}\n  |                            ^^^")
    );
}

/// What matters of a diagnostic when line ends differ.
fn without_excerpts(text: &str) -> Vec<(String, Option<String>, String)> {
    read(text)
        .diagnostics
        .into_iter()
        .map(|found| {
            let place = format!("{}:{}:{}", found.document, found.line, found.column);
            (found.message, found.excerpt, place)
        })
        .collect()
}

#[test]
fn line_ends_byte_order_mark_and_a_missing_final_newline_change_nothing() {
    let good = "schemaVersion: 2.2.0\ncomponents:\n- name: a\n  kubernetes:\n    inlined: |\n      apiVersion: v1\n      kind: X\n      metadata: {name: x}\n";
    for text in [MANY, good] {
        let unix = without_excerpts(text);
        let tree = read(text).tree.map(|tree| tree.to_json());
        for other in [
            text.replace('\n', "\r\n"),
            format!("\u{feff}{text}"),
            text.trim_end_matches('\n').to_owned(),
            format!(
                "\u{feff}{}",
                text.trim_end_matches('\n').replace('\n', "\r\n")
            ),
        ] {
            assert_eq!(without_excerpts(&other), unix, "{other:?}");
            assert_eq!(read(&other).tree.map(|tree| tree.to_json()), tree);
        }
    }
}

#[test]
fn columns_count_characters() {
    let found = read("schemaVersion: 2.2.0\nmetadata: {name: ä€😀, tags: x}\n");
    assert_eq!(told(&found), ["wrong-type metadata.tags 2:29"]);
}

#[test]
fn a_later_field_says_since_when_it_is_there() {
    let found = read("schemaVersion: 2.0.0\nvariables: {a: b}\n");
    assert_eq!(told(&found), ["unknown-field variables 2:1"]);
    assert_eq!(
        found.diagnostics[0].hint.as_deref(),
        Some("schemaVersion 2.1.0 and later have this field")
    );
}

#[test]
fn what_only_the_cluster_would_refuse_is_told_before() {
    let found = read(
        "schemaVersion: 2.2.0
components:
- name: a
  container:
    image: Upper/case
    memoryLimit: '-1'
    sourceMapping: relative
    env: [{name: 'A=B', value: x}, {name: a-b, value: x}, {name: C, value: x}, {name: C, value: z}]
    endpoints: [{name: a--b, targetPort: 0}, {name: b, targetPort: 70000}]
    volumeMounts: [{name: v, path: rel}, {name: v, path: /x}, {name: w, path: /x}]
- {name: v, volume: {size: '0'}}
- {name: w, volume: {}}
- {name: k, kubernetes: {inlined: 'kind: Pod'}}
projects:
- {name: p, clonePath: ../x, git: {remotes: {o: x}}}
- {name: p, clonePath: /abs, git: {remotes: {o: x}}}
- {name: q, clonePath: same, git: {remotes: {o: x}}}
- {name: r, clonePath: same, zip: {}}
attributes:
  pod-overrides: {spec: {serviceAccountName: '{{x}}'}}
",
    );
    let codes: Vec<&str> = found.diagnostics.iter().map(|d| d.code.name()).collect();
    for code in [
        "image-invalid",
        "quantity-negative",
        "source-mapping-invalid",
        "env-name-invalid",
        "env-name-unusual",
        "env-duplicate",
        "port-out-of-range",
        "port-name-invalid",
        "mount-path-invalid",
        "quantity-zero",
        "inlined-invalid",
        "clone-path-escapes",
        "project-duplicate",
        "zip-location-missing",
        "unresolved-variable",
    ] {
        assert!(codes.contains(&code), "{code} is missing in {codes:?}");
    }
    assert_eq!(
        codes
            .iter()
            .filter(|code| **code == "clone-path-escapes")
            .count(),
        2
    );
    // The library alone sees nothing of it.
    let library = crate::read_with(found.sources.get(0).unwrap().text(), &crate::library(), &[]);
    assert_eq!(told(&library), Vec::<String>::new());
}

#[test]
fn diagnostics_are_json_too() {
    let found = read("schemaVersion: 2.2.0\nfoo: 1\n");
    let json = serde_json::to_value(&found.diagnostics[0]).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "code": "unknown-field", "severity": "error", "rules": "schema",
            "message": "there is no field \"foo\" here", "path": "foo",
            "document": "/w/devfile.yaml", "line": 2, "column": 1,
            "excerpt": "2 | foo: 1\n  | ^^^",
        })
    );
    assert_eq!(found.diagnostics[0].severity, Severity::Error);
}

#[test]
fn what_is_wrong_with_the_text_hides_nothing_else() {
    let found = read(
        "schemaVersion: 2.2.0
components:
- name: Tools
  container: {image: i, memoryLimit: 010, cpuLimit: -1, bogus: 1, env: [{name: A, value: on}], volumeMounts: [{name: v}]}
- name: Tools
  volume: {size: 1Gi, size: 2Gi}
commands: [{id: c, exec: {component: tool, commandLine: '{{v}}'}}]
",
    );
    assert_eq!(
        told(&found),
        [
            "pattern-mismatch components[0].name 3:9",
            "wrong-type components[0].container.memoryLimit 4:38",
            "wrong-type components[0].container.cpuLimit 4:53",
            "quantity-negative components[0].container.cpuLimit 4:53",
            "unknown-field components[0].container.bogus 4:57",
            "wrong-type components[0].container.env[0].value 4:90",
            "volume-missing components[0].container.volumeMounts[0].name 4:118",
            "pattern-mismatch components[1].name 5:9",
            "duplicate-name components[1].name 5:9",
            "duplicate-key components[1].volume.size 6:23",
            "command-component-invalid commands[0].exec.component 7:38",
            "variable-unknown commands[0].exec.commandLine 7:57",
        ]
    );
    assert!(found.devfile.is_none() && found.tree.is_none());
}

#[test]
fn a_misspelt_list_is_not_told_of_everywhere_it_is_missed() {
    let found = read(
        "schemaVersion: 2.2.0
component: [{name: c, container: {image: i}}]
commands: [{id: a, exec: {component: c, commandLine: x}}]
",
    );
    assert_eq!(told(&found), ["unknown-field component 2:1"]);
}

#[test]
fn what_a_dev_workspace_says_beside_its_template_is_told() {
    let text = |started: bool| {
        format!(
            "apiVersion: workspace.devfile.io/v1alpha2
kind: DevWorkspace
metadata: {{name: d}}
spec:
  started: {started}
  routingClass: basic
  template: {{components: [{{name: c, container: {{image: i}}}}]}}
"
        )
    };
    assert_eq!(
        told(&read(&text(false))),
        [
            "workspace-field-unused spec.started 5:3",
            "workspace-field-unused spec.routingClass 6:3",
        ]
    );
    assert_eq!(
        told(&read(&text(true))),
        ["workspace-field-unused spec.routingClass 6:3"]
    );
}
