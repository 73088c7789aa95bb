use devfile::flatten::FlattenOptions;
use devfile::render::{RenderError, RenderOptions, dev_workspace, for_operator};
use devfile::validate::Rules;

use serde_json::{Value, json};

use crate::{read_with, told};

const TEXT: &str = "schemaVersion: 2.2.2
attributes:
  controller.devfile.io/storage-type: emphemeral
  pod-overrides: {spec: {containers: []}}
components:
- name: c
  attributes: {container-overrides: {env: [], resources: {}}}
  container: {image: i, dedicatedPod: true, annotation: {service: {a: b}}}
- {name: k, kubernetes: {uri: k.yaml}}
- {name: i, image: {imageName: x, dockerfile: {uri: D}}}
commands:
- {id: e, exec: {component: c, commandLine: x}}
- {id: a, apply: {component: c}}
- {id: ce, composite: {commands: [e]}}
- {id: ca, composite: {commands: [a]}}
events: {preStart: [ca], postStart: [ce], postStop: [a]}
projects:
- {name: p, git: {remotes: {o: x}}}
dependentProjects:
- {name: p, git: {remotes: {o: x}}}
- {name: q, clonePath: p, git: {remotes: {o: x, u: z}}}
";

fn rules(rules: Rules) -> FlattenOptions {
    FlattenOptions {
        rules,
        inline_uris: false,
        ..FlattenOptions::default()
    }
}

#[test]
fn the_operators_rules_are_a_set_of_their_own() {
    let library = read_with(TEXT, &rules(Rules::LIBRARY), &[]);
    assert_eq!(told(&library), Vec::<String>::new());
    let operator = read_with(TEXT, &rules(Rules::OPERATOR), &[]);
    assert_eq!(
        told(&operator),
        [
            "operator-storage-type attributes.\"controller.devfile.io/storage-type\" 3:39",
            "operator-override attributes.pod-overrides.spec.containers 4:38",
            "operator-override components[0].attributes.container-overrides.env 7:43",
            "operator-unsupported components[0].container.dedicatedPod 8:39",
            "operator-unsupported components[0].container.annotation.service 8:67",
            "operator-kubernetes-uri components[1].kubernetes.uri 9:31",
            "operator-unsupported components[2].image 10:20",
            "operator-pre-start events.preStart[0] 16:21",
            "operator-event events.postStart[0] 16:38",
            "operator-unsupported events.postStop 16:53",
            "operator-projects dependentProjects[0].name 20:10",
            "operator-projects dependentProjects[1].clonePath 21:24",
            "operator-dependent-remotes dependentProjects[1].git.remotes 21:42",
        ]
    );
}

/// The template's attributes and components, and the notes.
fn operated(attributes: &str) -> Result<(Value, Value, Vec<String>), RenderError> {
    let text = format!(
        "schemaVersion: 2.2.2\nattributes: {attributes}\ncomponents:\n- name: c\n  attributes: {{pod-overrides: {{metadata: {{labels: {{$patch: delete}}}}}}}}\n  container: {{image: i}}\n"
    );
    let mut devfile = read_with(&text, &FlattenOptions::default(), &[])
        .devfile
        .unwrap();
    let mut options = RenderOptions::new("demo", "team");
    options.selector = [("who".to_owned(), "us".to_owned())].into();
    options.pod_annotations = [("id".to_owned(), "1".to_owned())].into();
    options.storage.projects_size = "7Gi".into();
    let notes = for_operator(&mut devfile, &options)?;
    let rendered = dev_workspace(&devfile, &options)?;
    let template = &rendered.objects[0]["spec"]["template"];
    Ok((
        template["attributes"].clone(),
        template["components"].clone(),
        notes
            .into_iter()
            .map(|it| format!("{}: {}", it.path, it.what))
            .collect(),
    ))
}

#[test]
fn a_workspaces_storage_is_its_own() {
    const TYPE: &str = "controller.devfile.io/storage-type";
    let (attributes, components, notes) = operated("{}").unwrap();
    assert_eq!(attributes[TYPE], "per-workspace");
    assert_eq!(
        components[1],
        json!({"name": "projects", "volume": {"size": "7Gi"}})
    );
    assert_eq!(notes, [""; 0]);
    for (asked, becomes) in [
        ("per-workspace", "per-workspace"),
        ("ephemeral", "ephemeral"),
        ("common", "per-workspace"),
        ("per-user", "per-workspace"),
        ("async", "per-workspace"),
        ("\"\"", "per-workspace"),
    ] {
        let (attributes, _, notes) = operated(&format!("{{{TYPE}: {asked}}}")).unwrap();
        assert_eq!(attributes[TYPE], becomes, "{asked}");
        assert_eq!(notes.len(), usize::from(asked != becomes), "{notes:?}");
    }
    for wrong in ["emphemeral", "7", "{a: b}"] {
        let error = operated(&format!("{{{TYPE}: {wrong}}}")).unwrap_err();
        assert!(error.to_string().contains("ephemeral"), "{error}");
    }
}

#[test]
fn no_devfile_takes_the_workspaces_marks_from_its_pods() {
    let marks = json!({"labels": {"who": "us"}, "annotations": {"id": "1"}});
    let (attributes, ..) = operated("{}").unwrap();
    assert_eq!(attributes["pod-overrides"], json!({"metadata": marks}));
    let theirs = "{pod-overrides: {$patch: replace, spec: {hostname: h}, metadata: {$patch: replace, labels: {$patch: delete, who: me, a: b}, annotations: null}}}";
    let (attributes, _, notes) = operated(theirs).unwrap();
    assert_eq!(
        attributes["pod-overrides"],
        json!({"spec": {"hostname": "h"}, "metadata": {"labels": {"who": "us", "a": "b"}, "annotations": {"id": "1"}}})
    );
    assert_eq!(
        notes,
        [
            "attributes.pod-overrides.$patch: it is left out",
            "attributes.pod-overrides.metadata.$patch: it is left out",
            "attributes.pod-overrides.metadata.labels.$patch: it is left out",
            "attributes.pod-overrides.metadata.labels.who: it is left out",
            "attributes.pod-overrides.metadata.annotations: it is left out",
        ]
    );
    for theirs in ["x", "[]", "{metadata: 1}"] {
        let (attributes, ..) = operated(&format!("{{pod-overrides: {theirs}}}")).unwrap();
        assert_eq!(attributes["pod-overrides"], json!({"metadata": marks}));
    }
}
