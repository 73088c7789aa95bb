//! Inputs over the whole model, most of them valid, some with one mistake. The same number gives the same inputs.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

struct Random(u64);

impl Random {
    /// xorshift64*
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit
    }

    fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Writes the inputs, each in a folder of its own, some with a parent beside it.
pub(crate) fn write(folder: &Path, count: usize) -> Vec<PathBuf> {
    (0..count)
        .map(|number| {
            let seed = u64::try_from(number)
                .unwrap()
                .wrapping_add(1)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut random = Random(seed);
            let own = folder.join(number.to_string());
            std::fs::create_dir_all(&own).unwrap();
            let version = *random.pick(&["2.0.0", "2.1.0", "2.2.0", "2.2.1", "2.2.2", "2.3.0"]);
            let mut main = devfile(&mut random, version, "");
            if random.one_in(3) {
                let older = ["2.0.0", "2.1.0", "2.2.0", "2.2.2", "2.3.0"];
                let fitting: Vec<&str> = older
                    .into_iter()
                    .filter(|older| *older <= version || random.one_in(20))
                    .collect();
                let parent = devfile(&mut random, fitting.last().unwrap(), "p");
                main["parent"] = overrides(&mut random, &parent, version);
                std::fs::write(own.join("p.yaml"), text(&parent)).unwrap();
            }
            let path = own.join("devfile.yaml");
            std::fs::write(&path, text(&main)).unwrap();
            path
        })
        .collect()
}

fn text(value: &Value) -> String {
    devfile::yaml_text(value)
}

fn devfile(random: &mut Random, version: &str, prefix: &str) -> Value {
    let mut root = Map::new();
    root.insert("schemaVersion".into(), version.into());
    if random.one_in(2) {
        root.insert(
            "metadata".into(),
            json!({"name": format!("n{prefix}"), "version": "1.0.0", "tags": ["a"]}),
        );
    }
    if version >= "2.1.0" {
        if random.one_in(2) {
            root.insert(
                "attributes".into(),
                attributes(random, &format!("top{prefix}")),
            );
        }
        if random.one_in(2) {
            root.insert("variables".into(), json!({format!("v{prefix}"): *random.pick(&["x", "64Mi", "{{w}}", "/a b"]), format!("w{prefix}"): "y"}));
        }
    }
    let containers = 1 + random.below(3);
    let mut components = Vec::new();
    let mut names = Vec::new();
    for number in 0..containers {
        let name = format!("{prefix}c{number}");
        components.push(container(random, version, &name, number, prefix));
        names.push(name);
    }
    for volume in 0..2 + random.below(2) - usize::from(random.one_in(10)) {
        let mut body = Map::new();
        if random.one_in(2) {
            let rare = *random.pick(&["1", "1GB", "{{v}}"]);
            let size = *random.pick(&["1Gi", "500M", "64Mi", "1e3", "2Ti", "0.5P", rare]);
            body.insert("size".into(), size.into());
        }
        if version >= "2.1.0" && random.one_in(3) {
            body.insert("ephemeral".into(), random.one_in(2).into());
        }
        components.push(json!({"name": format!("{prefix}vol{volume}"), "volume": body}));
    }
    if random.one_in(4) {
        let mut body =
            json!({"inlined": "kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: '{{v}}'\n"});
        if version >= "2.2.0" && random.one_in(2) {
            body["deployByDefault"] = random.one_in(2).into();
        }
        if random.one_in(2) {
            body["endpoints"] =
                json!([{"name": format!("{prefix}ke"), "targetPort": 1 + random.below(90)}]);
        }
        let kind = *random.pick(&["kubernetes", "openshift"]);
        components.push(json!({"name": format!("{prefix}kube"), kind: body}));
        names.push(format!("{prefix}kube"));
    }
    if version >= "2.2.0" && random.one_in(4) {
        let source = random
            .pick(&[
                json!({"uri": "Dockerfile"}),
                json!({"git": {"remotes": {"origin": "https://x.example/{{v}}"}, "fileLocation": "D"}}),
                json!({"git": {"remotes": {"a": "x", "b": "y"}}}),
                json!({"devfileRegistry": {"id": "x{{v}}", "registryUrl": "https://r.example"}}),
            ])
            .clone();
        components.push(json!({"name": format!("{prefix}img"), "image": {"imageName": "i:{{v}}", "dockerfile": source}}));
        names.push(format!("{prefix}img"));
    }
    if random.one_in(30) {
        names.push("missing".into());
    }
    root.insert("components".into(), components.into());
    let commands = commands(random, version, &names, prefix);
    let ids: Vec<String> = commands
        .iter()
        .map(|c| c["id"].as_str().unwrap().to_owned())
        .collect();
    if !ids.is_empty() && random.one_in(2) {
        root.insert("events".into(), events(random, &commands));
    }
    if !commands.is_empty() {
        root.insert("commands".into(), commands.into());
    }
    projects(random, version, prefix, &mut root);
    mistake(random, &mut root);
    Value::Object(root)
}

fn attributes(random: &mut Random, key: &str) -> Value {
    let value = random
        .pick(&[
            json!("text"),
            json!(1),
            json!(1.5),
            json!(true),
            json!(["a", 2]),
            json!({"nested": {"deep": "{{v}}"}}),
        ])
        .clone();
    json!({key: value, format!("{key}.b"): "b"})
}

fn container(random: &mut Random, version: &str, name: &str, number: usize, prefix: &str) -> Value {
    let mut body = Map::new();
    body.insert(
        "image".into(),
        (*random.pick(&["img", "img:{{v}}", "q.example/a/b:1"])).into(),
    );
    if random.one_in(2) {
        let mut env = vec![json!({"name": "A", "value": "{{ v }}-{{nope}}"})];
        if random.one_in(2) {
            let rare = *random.pick(&["E", "F", "PROJECT_SOURCE"]);
            let name = *random.pick(&["B", "A", "{{w}}", "C", "D", rare]);
            env.push(json!({"name": name, "value": ""}));
        }
        body.insert("env".into(), env.into());
    }
    if random.one_in(3) {
        let path = *random.pick(&["", "/m", "/{{v}}"]);
        let mut mount = json!({"name": format!("{prefix}vol{}", random.below(2))});
        if !path.is_empty() {
            mount["path"] = path.into();
        }
        body.insert("volumeMounts".into(), json!([mount]));
    }
    for (key, since) in [
        ("memoryLimit", "2.0.0"),
        ("memoryRequest", "2.1.0"),
        ("cpuLimit", "2.1.0"),
        ("cpuRequest", "2.1.0"),
    ] {
        if version >= since && random.one_in(4) {
            let value = if key.ends_with("Request") {
                *random.pick(&["1m", "0", ".5", "500u", "-1", "1e-1"])
            } else {
                *random.pick(&["1", "500m", "1Gi", "1e2", "2", "1.5G"])
            };
            let value = if random.one_in(12) {
                *random.pick(&["1K", "{{v}}", "100m", "1Gi", "x"])
            } else {
                value
            };
            body.insert(key.into(), value.into());
        }
    }
    for key in ["command", "args"] {
        if random.one_in(4) {
            body.insert(key.into(), json!(["sh", "{{v}}", "yes", "1"]));
        }
    }
    for key in ["mountSources", "dedicatedPod"] {
        if random.one_in(3) {
            body.insert(key.into(), random.one_in(2).into());
        }
    }
    if random.one_in(4) {
        body.insert(
            "sourceMapping".into(),
            (*random.pick(&["/src", "/{{v}}"])).into(),
        );
    }
    if version >= "2.2.0" && random.one_in(3) {
        let value = format!("x{}", usize::from(random.one_in(8)));
        body.insert(
            "annotation".into(),
            json!({"deployment": {"k": value, "{{v}}": "{{v}}"}, "service": {"s": "t"}}),
        );
    }
    if random.one_in(2) {
        let count = 1 + random.below(2);
        let endpoints: Vec<Value> = (0..count)
            .map(|at| {
                let mut endpoint = json!({
                    "name": format!("{prefix}e{number}-{at}"),
                    "targetPort": prefix.len() * 50 + number * 10 + random.below(10) + usize::from(random.one_in(25)) * 10 + 1,
                });
                if random.one_in(3) {
                    endpoint["exposure"] = (*random.pick(&["public", "internal", "none"])).into();
                }
                if random.one_in(3) {
                    endpoint["protocol"] = (*random.pick(&["http", "udp", "wss"])).into();
                }
                if random.one_in(3) {
                    endpoint["path"] = "/{{v}}".into();
                }
                if random.one_in(5) {
                    endpoint["attributes"] = attributes(random, "ep");
                }
                endpoint
            })
            .collect();
        body.insert("endpoints".into(), endpoints.into());
    }
    let mut component = json!({"name": name, "container": body});
    if random.one_in(3) {
        component["attributes"] = attributes(random, "at");
    }
    component
}

fn commands(random: &mut Random, version: &str, names: &[String], prefix: &str) -> Vec<Value> {
    let mut commands: Vec<Value> = Vec::new();
    for number in 0..random.below(5) {
        let id = format!("{prefix}k{number}");
        let component = random.pick(names).clone();
        let runs = !component.contains("kube") && !component.contains("img");
        let mut body;
        let kind;
        match random.below(4) {
            at if at == 0 || !(runs || random.one_in(10)) => {
                kind = "apply";
                body = json!({"component": component, "label": "{{v}}"});
            }
            1 if number > 0 => {
                kind = "composite";
                let mut ids: Vec<String> = (0..1 + random.below(2))
                    .map(|_| format!("{prefix}k{}", random.below(number)))
                    .collect();
                if random.one_in(15) {
                    ids.push(format!("{prefix}k{}", random.below(6)));
                }
                // Not the id of a composite: decision composite-case.
                let plain = commands.iter().any(|other| {
                    other["id"] == ids[0].as_str() && other.get("composite").is_none()
                });
                if plain && random.one_in(10) {
                    ids[0] = ids[0].to_uppercase();
                }
                body = json!({"commands": ids});
                if random.one_in(2) {
                    body["parallel"] = random.one_in(2).into();
                }
            }
            _ => {
                kind = "exec";
                body = json!({"component": component, "commandLine": "run {{v}} {{ x y }}\n{{w}}"});
                if random.one_in(2) {
                    body["workingDir"] = "${PROJECT_SOURCE}/{{v}}".into();
                }
                if random.one_in(4) {
                    body["env"] = json!([{"name": "E", "value": "{{w}}"}]);
                }
            }
        }
        if random.one_in(3) {
            let kinds: &[&str] = if version >= "2.2.0" {
                &["build", "run", "test", "debug", "deploy"]
            } else {
                &["build", "run", "test", "debug"]
            };
            body["group"] = json!({"kind": random.pick(kinds)});
            let first = !commands.iter().any(|other: &Value| {
                other
                    .to_string()
                    .contains(&body["group"].to_string().replace('}', ""))
            });
            if first || random.one_in(8) {
                body["group"]["isDefault"] = true.into();
            } else if random.one_in(2) {
                body["group"]["isDefault"] = false.into();
            }
        }
        let mut command = json!({"id": id, kind: body});
        if random.one_in(4) {
            command["attributes"] = attributes(random, "cat");
        }
        commands.push(command);
    }
    commands
}

fn events(random: &mut Random, commands: &[Value]) -> Value {
    let mut events = Map::new();
    for (event, wanted) in [
        ("preStart", "apply"),
        ("postStart", "exec"),
        ("preStop", "exec"),
        ("postStop", "apply"),
    ] {
        let fitting: Vec<&Value> = commands
            .iter()
            .filter(|command| {
                command.get(wanted).is_some()
                    || random.one_in(40)
                    || (command.get("composite").is_some() && random.one_in(8))
            })
            .collect();
        if fitting.is_empty() || random.one_in(2) {
            continue;
        }
        let mut ids: Vec<Value> = (0..1 + random.below(2))
            .map(|_| random.pick(&fitting)["id"].clone())
            .collect();
        if random.one_in(20) {
            ids.push("nowhere".into());
        }
        events.insert(event.into(), ids.into());
    }
    Value::Object(events)
}

fn projects(random: &mut Random, version: &str, prefix: &str, root: &mut Map<String, Value>) {
    for (list, since) in [
        ("projects", "2.0.0"),
        ("starterProjects", "2.0.0"),
        ("dependentProjects", "2.2.2"),
    ] {
        if version < since || !random.one_in(3) {
            continue;
        }
        let remote = *random.pick(&["origin", "origin", "other"]);
        let source = random
            .pick(&[
                ("git", json!({"remotes": {"origin": "https://g.example/{{v}}.git"}})),
                ("git", json!({"remotes": {"origin": "x", "up": "y"}, "checkoutFrom": {"remote": "up", "revision": "{{v}}"}})),
                ("git", json!({"remotes": {"origin": "x"}, "checkoutFrom": {"revision": "main"}})),
                ("git", json!({"remotes": {"o{{w}}": "x"}})),
                ("zip", json!({"location": "https://z.example/{{v}}"})),
                ("git", json!({"remotes": {"origin": "x"}, "checkoutFrom": {"remote": remote}})),
            ])
            .clone();
        let mut project =
            json!({"name": format!("{prefix}{}", list.to_lowercase()), source.0: source.1});
        if list == "starterProjects" {
            project["description"] = "d {{v}}".into();
            if random.one_in(2) {
                project["subDir"] = "{{v}}/s".into();
            }
        } else if random.one_in(2) {
            project["clonePath"] = "c/{{v}}".into();
        }
        if version >= "2.1.0" && random.one_in(4) {
            project["attributes"] = attributes(random, "pat");
        }
        root.insert(list.into(), json!([project]));
    }
}

/// Overrides of some of the parent's elements, each in the form the schema wants.
fn overrides(random: &mut Random, parent: &Value, version: &str) -> Value {
    let mut result = json!({"uri": "p.yaml"});
    let items = |list: &str| parent[list].as_array().cloned().unwrap_or_default();
    let mut components = Vec::new();
    for component in items("components") {
        let Some(container) = component.get("container") else {
            continue;
        };
        if !random.one_in(2) {
            continue;
        }
        let mut body = Map::new();
        if random.one_in(2) {
            body.insert("image".into(), "other".into());
        }
        if random.one_in(2) {
            body.insert(
                "env".into(),
                json!([{"name": "Z", "value": "z"}, {"name": "A", "value": "new"}]),
            );
        }
        if random.one_in(2) {
            body.insert("args".into(), json!(["q"]));
        }
        if let (Some(endpoints), true) = (container["endpoints"].as_array(), random.one_in(2)) {
            let mut endpoint = endpoints.last().unwrap().clone();
            endpoint["targetPort"] = (200 + random.below(5)).into();
            body.insert("endpoints".into(), json!([endpoint]));
        }
        if random.one_in(4) {
            body.insert("mountSources".into(), random.one_in(2).into());
        }
        let mut item = json!({"name": component["name"], "container": body});
        if random.one_in(8) {
            item = json!({"name": component["name"], "volume": {"size": "1Gi"}});
        }
        if random.one_in(4) {
            item["attributes"] = json!({"at": "over", "new": {"a": [1]}});
        }
        components.push(item);
    }
    components.reverse();
    if random.one_in(15) {
        components.push(json!({"name": "unknown-one", "container": {"image": "x"}}));
    }
    if !components.is_empty() {
        result["components"] = components.into();
    }
    let mut commands = Vec::new();
    for command in items("commands") {
        if command.get("exec").is_some() && random.one_in(2) {
            commands.push(json!({"id": command["id"], "exec": {"commandLine": "over {{v}}", "env": [{"name": "N", "value": "n"}]}}));
        } else if command.get("composite").is_some() && random.one_in(2) {
            commands.push(json!({"id": command["id"], "composite": {"parallel": true}}));
        }
    }
    if !commands.is_empty() {
        result["commands"] = commands.into();
    }
    if let (Some(project), true) = (items("projects").first(), random.one_in(2)) {
        if project.get("git").is_some() {
            result["projects"] = json!([{"name": project["name"], "clonePath": "over", "git": {"remotes": {"more": "m"}}}]);
        } else {
            result["projects"] =
                json!([{"name": project["name"], "git": {"remotes": {"only": "m"}}}]);
        }
    }
    if version >= "2.1.0" {
        if let (Some(own), true) = (parent["variables"].as_object(), random.one_in(2)) {
            let (key, _) = own.iter().next().unwrap();
            result["variables"] = json!({key.clone(): "overridden"});
        }
        if let (Some(own), true) = (parent["attributes"].as_object(), random.one_in(2)) {
            let (key, _) = own.iter().next().unwrap();
            result["attributes"] = json!({key.clone(): "overridden"});
        }
    }
    result
}

/// One mistake in some of the inputs.
fn mistake(random: &mut Random, root: &mut Map<String, Value>) {
    if !random.one_in(10) {
        return;
    }
    match random.below(8) {
        0 => {
            root.insert("extra".into(), 1.into());
        }
        1 => {
            root.insert("components".into(), Value::Null);
        }
        2 => {
            root.insert("schemaVersion".into(), "9.9.9".into());
        }
        3 => root["components"][0]["container"]["image"] = 5.into(),
        4 => root["components"][0]["volume"] = json!({}),
        5 => root["components"][0]["name"] = "Bad_Name".into(),
        6 => {
            let first = root["components"][0].clone();
            if let Some(Value::Array(list)) = root.get_mut("components") {
                list.push(first);
            }
        }
        _ => {
            root["components"][0]["container"]["endpoints"] =
                json!([{"name": "a-name-of-sixteen", "targetPort": 80}]);
        }
    }
}
