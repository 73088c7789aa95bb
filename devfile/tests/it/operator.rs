use devfile::flatten::FlattenOptions;
use devfile::validate::Rules;

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
