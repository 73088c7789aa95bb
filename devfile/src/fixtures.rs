//! Upstream cases for overriding, merging, variables and overrides of Pods, which reach below the public functions.

mod flatten;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::diagnostic::Reporter;
use crate::flatten::testing::{apply_overrides, merge_contents};
use crate::node::Node;
use crate::source::Sources;
use crate::{Code, variables, yaml};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn read(path: &Path) -> Option<Node> {
    let text = std::fs::read_to_string(path).ok()?;
    // The upstream cases hold references without quotes in block texts only.
    let mut documents =
        yaml::read_embedded(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    Some(documents.swap_remove(0))
}

fn folders(path: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(root().join(path))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

/// Values that Go leaves out when it writes.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| (key, without_empty(value)))
            .filter(|(_, value)| {
                !(value.is_null()
                    || value.as_object().is_some_and(Map::is_empty)
                    || value.as_array().is_some_and(Vec::is_empty))
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(without_empty).collect(),
        other => other,
    }
}

#[test]
fn overrides_give_the_upstream_results() {
    for folder in folders("devfile-api/overriding/patches") {
        let original = read(&folder.join("original.yaml")).unwrap();
        let patch = read(&folder.join("patch.yaml")).unwrap();
        let sources = Sources::default();
        let mut reporter = Reporter::new(&sources);
        let result = apply_overrides(original, patch, &mut reporter);
        match read(&folder.join("result.yaml")) {
            Some(expected) => assert_eq!(
                result.map(|node| without_empty(node.to_json())),
                Some(without_empty(expected.to_json())),
                "{folder:?}"
            ),
            None => {
                assert!(result.is_none(), "{folder:?}");
                let error = std::fs::read_to_string(folder.join("result-error.txt")).unwrap();
                // Every element that upstream names in its errors is named here.
                for found in reporter.finish() {
                    assert_eq!(found.code, Code::OverrideUnknown);
                    let name = found.message.split('"').nth(1).unwrap();
                    assert!(error.contains(name), "{folder:?}: {name}");
                }
            }
        }
    }
}

#[test]
fn merging_gives_the_upstream_results() {
    for folder in folders("devfile-api/overriding/merges") {
        let main = read(&folder.join("main.yaml")).unwrap();
        let parent = read(&folder.join("parent.yaml"));
        let plugin = read(&folder.join("plugin.yaml"));
        let sources = Sources::default();
        let mut reporter = Reporter::new(&sources);
        let result = merge_contents(main, parent, plugin, &mut reporter);
        match read(&folder.join("result.yaml")) {
            Some(expected) => {
                let sorted = |node: Node| {
                    let mut value = without_empty(node.to_json());
                    // Upstream sorts events; here they keep their order (decision events-in-order).
                    if let Some(Value::Object(events)) = value.get_mut("events") {
                        for list in events.values_mut().filter_map(Value::as_array_mut) {
                            list.sort_by_key(ToString::to_string);
                        }
                    }
                    value
                };
                assert_eq!(result.map(sorted), Some(sorted(expected)), "{folder:?}");
            }
            None => {
                assert!(result.is_none(), "{folder:?}");
                let error = std::fs::read_to_string(folder.join("result-error.txt")).unwrap();
                let found = reporter.finish();
                assert!(!found.is_empty());
                for found in found {
                    assert_eq!(found.code, Code::MergeConflict);
                    let name = found.message.split('"').nth(1).unwrap();
                    assert!(error.contains(name), "{folder:?}: {name}");
                }
            }
        }
    }
}

/// Where a fragment of a case stands in a devfile.
fn wrap(file: &str, fragment: Value) -> Value {
    let component = |kind: &str, body: Value| json!({"components": [{"name": "c", kind: body}]});
    match file {
        "components/container" => component("container", fragment),
        "components/endpoint" => component("container", json!({"endpoints": [fragment]})),
        "components/env" => component("container", json!({"env": [fragment]})),
        "components/openshift-kubernetes" => component("kubernetes", fragment),
        "components/volume" => component("volume", fragment),
        _ if file.starts_with("components/image") => component("image", fragment),
        "projects/starterproject" => json!({"starterProjects": [fragment]}),
        "projects/project" => json!({"projects": [fragment]}),
        "projects/git" | "projects/zip" => {
            let mut project = fragment;
            project["name"] = "p".into();
            json!({"projects": [project]})
        }
        _ if file.starts_with("commands/") => {
            let kind = file.trim_start_matches("commands/");
            json!({"commands": [{"id": "k", kind: fragment}]})
        }
        _ => fragment,
    }
}

fn tree(value: &Value) -> Node {
    yaml::read_embedded(&crate::yaml_text(value))
        .unwrap()
        .swap_remove(0)
}

#[test]
fn variables_give_the_upstream_results() {
    let root = root().join("devfile-api/variables");
    let values = |name: &str| -> BTreeMap<String, String> {
        let node = read(&root.join("variables").join(name)).unwrap();
        serde_json::from_value(node.to_json()).unwrap()
    };
    let referenced = values("variables-referenced.yaml");
    let other = values("variables-notreferenced.yaml");
    let mut cases = 0;
    for section in ["components", "commands", "projects", "all"] {
        for path in folders(&format!("devfile-api/variables/{section}")) {
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if stem.ends_with("-output") {
                continue;
            }
            let file = format!("{section}/{stem}");
            let output = path.with_file_name(format!("{stem}-output.yaml"));
            let input = wrap(&file, read(&path).unwrap().to_json());
            let run = |variables: &BTreeMap<String, String>| {
                let mut content = tree(&input);
                let sources = Sources::default();
                let mut reporter = Reporter::new(&sources);
                variables::substitute(&mut content, variables, &mut reporter);
                let mut value = content.to_json();
                if section != "all"
                    && let Value::Object(fields) = &mut value
                {
                    fields.remove("variables");
                }
                (value, reporter.finish().len())
            };
            let nothing = BTreeMap::new();
            let (found, unknown) = run(if section == "all" {
                &nothing
            } else {
                &referenced
            });
            let expected = match read(&output) {
                Some(output) => wrap(&file, output.to_json()),
                None => input.clone(),
            };
            assert_eq!(found, expected, "{file}");
            assert_eq!(unknown > 0, stem == "devfile-bad", "{file}");
            if section != "all" && expected != input {
                let (found, unknown) = run(&other);
                assert_eq!(found, input, "{file} without its variables");
                assert!(unknown > 0, "{file}");
            }
            cases += 1;
        }
    }
    assert!(cases >= 17, "{cases}");
}

/// Upstream cases for pod- and container-overrides that end differently here, each with its reason.
const DECIDED: [(&str, &str); 2] = [
    (
        "container-cannot-set-restricted-fields",
        "upstream fails; here what may not be set is left out and noted, and the rest applies",
    ),
    (
        "overrides-handles-defaulted-probe-fields",
        "upstream writes a probe's defaults, to compare objects; the API server does it as well",
    ),
];

#[test]
fn pod_and_container_overrides_give_the_upstream_results() {
    let mut different = Vec::new();
    let mut same = 0;
    for kind in ["pod-overrides", "container-overrides"] {
        for path in folders(&format!("dwo/overrides/{kind}")) {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let case = read(&path).unwrap().to_json();
            let (found, expected) = if kind == "pod-overrides" {
                let workspace: crate::model::Devfile =
                    serde_json::from_value(case["input"]["workspace"].clone()).unwrap();
                let template = &case["input"]["podTemplateSpec"];
                (
                    crate::render::testing::pod(&workspace, template),
                    &case["output"]["podTemplateSpec"],
                )
            } else {
                let mut component = case["input"]["component"].clone();
                if component["container"]["image"].is_null() {
                    component["container"] = json!({"image": "i"});
                }
                let component: crate::model::Component = serde_json::from_value(component).unwrap();
                (
                    crate::render::testing::container(&component, &case["input"]["container"]),
                    &case["output"]["container"],
                )
            };
            // Where upstream fails, nothing is changed here.
            let fails = case["output"].get("errRegexp").is_some();
            let input = case["input"]
                .get("podTemplateSpec")
                .unwrap_or(&case["input"]["container"]);
            let expected = if fails { input } else { expected };
            if without_empty(found.clone()) == without_empty(expected.clone()) {
                same += 1;
            } else {
                different.push(format!("{name}: {found}"));
            }
        }
    }
    let unexpected: Vec<&String> = different
        .iter()
        .filter(|text| !DECIDED.iter().any(|(name, _)| text.starts_with(name)))
        .collect();
    assert!(unexpected.is_empty(), "{same} same, {unexpected:#?}");
    assert_eq!(different.len(), DECIDED.len());
}
