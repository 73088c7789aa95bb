use devfile::flatten::{Cache, FlattenOptions, Reference, flatten};

use crate::{read_with, told};

const PARENT: &str = "schemaVersion: 2.2.0
variables: {v: parent}
components:
- name: tools
  attributes: {a: {b: 1}}
  container: {image: 'i:{{v}}', env: [{name: A, value: a}, {name: B, value: b}, {name: C, value: c}]}
commands:
- {id: run, exec: {component: tools, commandLine: go}}
events: {postStart: [run]}
";

#[test]
fn a_problem_in_a_parent_is_told_with_the_parents_place() {
    let found = read_with(
        "schemaVersion: 2.2.0\nparent: {uri: sub/p.yaml}\n",
        &FlattenOptions::default(),
        &[(
            "/w/sub/p.yaml",
            "schemaVersion: 2.2.0\ncomponents:\n- name: a\n  container: {image: i, memoryLimit: 1GB}\n",
        )],
    );
    assert_eq!(
        told(&found),
        ["quantity-invalid components[0].container.memoryLimit 4:38"]
    );
    assert_eq!(found.diagnostics[0].document, "/w/sub/p.yaml");
}

#[test]
fn overrides_and_variables_from_outside_reach_the_parents_elements() {
    let options = FlattenOptions {
        variables: [("v".to_owned(), "outside".to_owned())].into(),
        ..FlattenOptions::default()
    };
    let found = read_with(
        "schemaVersion: 2.3.0
parent:
  uri: https://h.example/d/devfile.yaml
  components:
  - name: tools
    attributes: {a: [1, {c: 2}]}
    container: {env: [{name: C, value: new}, {name: Z, value: z}]}
",
        &options,
        &[("https://h.example/d/devfile.yaml", PARENT)],
    );
    assert_eq!(told(&found), Vec::<String>::new());
    let devfile = found.devfile.unwrap();
    let (component, container) = devfile.containers().next().unwrap();
    assert_eq!(container.image, "i:outside");
    let env: Vec<(&str, &str)> = container
        .env
        .iter()
        .map(|env| (env.name.as_str(), env.value.as_str()))
        .collect();
    assert_eq!(env, [("A", "a"), ("B", "b"), ("C", "new"), ("Z", "z")]);
    assert_eq!(component.attributes["a"], serde_json::json!([1, {"c": 2}]));
    assert_eq!(
        component.attributes["api.devfile.io/imported-from"],
        "uri: https://h.example/d/devfile.yaml"
    );
}

#[test]
fn parents_nest_and_relative_references_start_at_their_document() {
    let found = read_with(
        "schemaVersion: 2.2.0\nparent: {uri: https://h.example/a/one.yaml}\n",
        &FlattenOptions::default(),
        &[
            (
                "https://h.example/a/one.yaml",
                "schemaVersion: 2.2.0\nparent: {uri: ../b/two.yaml}\ncomponents:\n- name: k\n  kubernetes: {uri: k.yaml}\n",
            ),
            ("https://h.example/b/two.yaml", PARENT),
            (
                "https://h.example/a/k.yaml",
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n",
            ),
        ],
    );
    assert_eq!(told(&found), Vec::<String>::new());
    let names: Vec<String> = found
        .devfile
        .unwrap()
        .components
        .into_iter()
        .map(|component| component.name)
        .collect();
    assert_eq!(names, ["tools", "k"]);
}

#[test]
fn circles_and_long_chains_end() {
    let found = read_with(
        "schemaVersion: 2.2.0\nparent: {uri: p.yaml}\n",
        &FlattenOptions::default(),
        &[
            (
                "/w/p.yaml",
                "schemaVersion: 2.2.0\nparent: {uri: ./x/../q.yaml}\n",
            ),
            ("/w/q.yaml", "schemaVersion: 2.2.0\nparent: {uri: p.yaml}\n"),
        ],
    );
    assert_eq!(told(&found), ["import-cycle parent 2:9"]);
    assert!(
        found.diagnostics[0]
            .message
            .contains("main devfile -> uri: /w/p.yaml -> uri: /w/q.yaml")
    );

    let chain: Vec<(String, String)> = (0..40)
        .map(|at| {
            (
                format!("/w/p{at}.yaml"),
                format!("schemaVersion: 2.2.0\nparent: {{uri: p{}.yaml}}\n", at + 1),
            )
        })
        .collect();
    let chain: Vec<(&str, &str)> = chain
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    let found = read_with(
        "schemaVersion: 2.2.0\nparent: {uri: p0.yaml}\n",
        &FlattenOptions::default(),
        &chain,
    );
    assert_eq!(told(&found), ["import-limit parent 2:9"]);
}

#[test]
fn a_registry_and_a_template_in_the_cluster_are_asked() {
    let options = FlattenOptions {
        registries: vec![
            "https://first.example".into(),
            "https://second.example/".into(),
        ],
        namespace: Some("team".into()),
        ..FlattenOptions::default()
    };
    let found = read_with(
        "schemaVersion: 2.3.0\nparent: {id: go, version: 1.0.0}\n",
        &options,
        &[("https://second.example/devfiles/go/1.0.0", PARENT)],
    );
    assert_eq!(told(&found), Vec::<String>::new());

    let template = "apiVersion: workspace.devfile.io/v1alpha2\nkind: DevWorkspaceTemplate\nmetadata: {name: t}\nspec:\n  components:\n  - {name: a, container: {image: i}}\n";
    let found = read_with(
        "schemaVersion: 2.3.0\nparent: {kubernetes: {name: t}}\n",
        &options,
        &[("kubernetes:team/t", template)],
    );
    assert_eq!(told(&found), Vec::<String>::new());
    assert_eq!(
        found.devfile.unwrap().components[0].attributes["api.devfile.io/imported-from"],
        "name: t, namespace: team"
    );
}

#[test]
fn templates_and_workspaces_with_plugins_and_contributions_are_flattened() {
    let editor = "schemaVersion: 2.1.0\ncomponents:\n- {name: editor, container: {image: e}}\n";
    let found = read_with(
        "apiVersion: workspace.devfile.io/v1alpha2
kind: DevWorkspace
metadata: {name: w}
spec:
  started: true
  contributions:
  - name: ide
    uri: https://h.example/editor.yaml
    components: [{name: editor, container: {memoryLimit: 1Gi}}]
  template:
    components:
    - {name: tools, container: {image: i}}
    - name: more
      plugin: {uri: https://h.example/more.yaml}
    - name: own
      custom: {componentClass: x, embeddedResource: {a: 1}}
",
        &FlattenOptions::default(),
        &[
            ("https://h.example/editor.yaml", editor),
            (
                "https://h.example/more.yaml",
                "schemaVersion: 2.0.0\ncommands:\n- {id: c, exec: {component: tools, commandLine: x}}\n",
            ),
        ],
    );
    assert_eq!(told(&found), Vec::<String>::new());
    let devfile = found.devfile.unwrap();
    let names: Vec<&str> = devfile.components.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["editor", "tools", "own"]);
    assert_eq!(devfile.commands[0].id, "c");
}

#[test]
fn a_cache_says_what_an_asynchronous_caller_has_to_fetch() {
    let main = "schemaVersion: 2.2.0\nparent: {uri: p.yaml}\n";
    let answers = crate::texts(&[
        ("/w/p.yaml", "schemaVersion: 2.2.0\nparent: {uri: q.yaml}\n"),
        ("/w/q.yaml", PARENT),
    ]);
    let mut cache = Cache::default();
    let mut rounds = 0;
    let found = loop {
        let found = flatten(
            "/w/devfile.yaml",
            main,
            &FlattenOptions::default(),
            &mut cache,
        );
        let missing = cache.take_missing();
        if missing.is_empty() {
            break found;
        }
        rounds += 1;
        assert!(rounds < 10);
        for reference in missing {
            let Reference::Location(location) = &reference else {
                panic!("{reference}");
            };
            let text = answers.0[location].clone();
            cache.insert(reference, Ok(text));
        }
    };
    assert_eq!((rounds, told(&found)), (2, vec![]));
}

#[test]
fn what_cannot_be_fetched_is_told_where_it_is_named() {
    let found = read_with(
        "schemaVersion: 2.2.0\nparent:\n  uri: p.yaml\n",
        &FlattenOptions::default(),
        &[],
    );
    assert_eq!(told(&found), ["import-failed parent 3:3"]);
    assert_eq!(found.diagnostics[0].message, "/w/p.yaml: it is not there");
    assert!(found.devfile.is_none());
}
