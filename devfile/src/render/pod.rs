//! Containers, Pods and Deployments.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::editor::Placement;
use super::lifecycle::{self, Plan};
use super::names::{MAX_NAME, cut_name};
use super::storage::Storage;
use super::{
    Entrypoint, Notes, RenderError, RenderOptions, annotate, git, metadata, network, overrides,
    projects, resources,
};
use crate::model::{Component, Container, Devfile, Endpoint};

/// Tells a workspace's Pods apart: `main`, or the component that has a Pod of its own.
const POD_LABEL: &str = "devfile.io/pod";
const MAIN: &str = "main";

/// Waits until it is told to end, and ends at once then.
pub(crate) const IDLE: &str = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done";

/// One Pod of a workspace with all that is made from it.
pub(super) struct Pod {
    /// Name of its Deployment and Service.
    pub(super) name: String,
    label: String,
    deployment_annotations: BTreeMap<String, String>,
    pub(super) service_annotations: BTreeMap<String, String>,
    pub(super) endpoints: Vec<Endpoint>,
    spec: Map<String, Value>,
    metadata: Map<String, Value>,
}

impl Pod {
    pub(super) fn selector(&self, options: &RenderOptions) -> BTreeMap<String, String> {
        let mut selector = options.selector.clone();
        selector.insert(POD_LABEL.into(), self.label.clone());
        selector
    }

    pub(super) fn deployment(&self, options: &RenderOptions) -> Value {
        let mut head = metadata(options, &self.name);
        annotate(&mut head, &self.deployment_annotations);
        let selector = self.selector(options);
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": head,
            "spec": {
                "replicas": options.replicas,
                // A volume can be in one Pod at a time.
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": selector},
                "template": {"metadata": self.metadata, "spec": self.spec},
            },
        })
    }
}

/// What Pods are made of.
pub(super) struct Parts<'a> {
    pub(super) devfile: &'a Devfile,
    pub(super) options: &'a RenderOptions,
    pub(super) plan: &'a Plan<'a>,
    pub(super) storage: &'a Storage,
    pub(super) editor: Option<&'a Placement<'a>>,
}

impl Parts<'_> {
    pub(super) fn render(&self, notes: &mut Notes) -> Result<Vec<Pod>, RenderError> {
        let Self {
            devfile,
            options,
            plan,
            ..
        } = *self;
        let running: Vec<(&Component, &Container)> = devfile
            .containers()
            .filter(|(component, _)| !plan.init_only.contains(component.name.as_str()))
            .collect();
        if running.is_empty() {
            notes.add(
                "components",
                "no Deployment is made",
                "no container runs in the workspace",
            );
            return Ok(Vec::new());
        }
        let (dedicated, main): (Vec<_>, Vec<_>) = running
            .into_iter()
            .partition(|(_, container)| container.has_dedicated_pod());
        let mut pods = Vec::new();
        if !main.is_empty() {
            pods.push(self.pod(MAIN, options.name.clone(), &main, notes)?);
        }
        for (component, container) in dedicated {
            if !container.volume_mounts.is_empty() || container.mounts_sources() {
                notes.add(
                    format!("components[name={}].container.dedicatedPod", component.name),
                    "its Pod starts on the node of the main Pod only",
                    "their common volumes can be on one node at a time",
                );
            }
            let name = cut_name(&format!("{}-{}", options.name, component.name), MAX_NAME);
            pods.push(self.pod(&component.name, name, &[(component, container)], notes)?);
        }
        Ok(pods)
    }

    fn pod(
        &self,
        label: &str,
        name: String,
        members: &[(&Component, &Container)],
        notes: &mut Notes,
    ) -> Result<Pod, RenderError> {
        let options = self.options;
        let is_main = label == MAIN;
        let containers: Vec<Value> = members
            .iter()
            .map(|(component, container)| self.container(component, container, notes))
            .collect();
        let mut init = Vec::new();
        if is_main {
            init.extend(projects::clone_container(
                self.devfile,
                options,
                self.storage,
                notes,
            )?);
            init.extend(self.editor.map(|editor| editor.init_container(options)));
            init.extend(self.init_containers(notes));
        }
        let mounted: BTreeSet<String> = containers
            .iter()
            .chain(&init)
            .filter_map(|container| container["volumeMounts"].as_array())
            .flatten()
            .filter_map(|mount| mount["name"].as_str())
            .map(str::to_owned)
            .collect();
        let mut spec = self.spec();
        spec.insert("containers".into(), containers.into());
        if !init.is_empty() {
            spec.insert("initContainers".into(), init.into());
        }
        let mut volumes = self.storage.volumes(options, &mounted);
        volumes.extend(self.editor.filter(|_| is_main).map(Placement::volume));
        if !volumes.is_empty() {
            spec.insert("volumes".into(), volumes.into());
        }
        let mut labels = options.labels.clone();
        labels.extend(options.selector.clone());
        labels.insert(POD_LABEL.into(), label.to_owned());
        let mut head = Map::new();
        head.insert("labels".into(), json!(labels));
        if !options.pod_annotations.is_empty() {
            head.insert("annotations".into(), json!(options.pod_annotations));
        }
        let mut owners: Vec<&Component> = members.iter().map(|(component, _)| *component).collect();
        if is_main {
            let before = |it: &&Component| self.plan.init_only.contains(it.name.as_str());
            owners.extend(self.devfile.components.iter().filter(before));
        }
        overrides::pod(self.devfile, &owners, options, &mut spec, &mut head, notes);

        let annotations = |pick: fn(&crate::model::Annotation) -> &BTreeMap<String, String>| {
            members
                .iter()
                .filter_map(|(_, container)| container.annotation.as_ref())
                .flat_map(pick)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        Ok(Pod {
            name,
            label: label.to_owned(),
            deployment_annotations: annotations(|annotation| &annotation.deployment),
            service_annotations: annotations(|annotation| &annotation.service),
            endpoints: members
                .iter()
                .flat_map(|(component, container)| self.endpoints(component, container))
                .collect(),
            spec,
            metadata: head,
        })
    }

    fn spec(&self) -> Map<String, Value> {
        let options = self.options;
        let mut security = Map::new();
        security.insert("runAsNonRoot".into(), true.into());
        security.insert("seccompProfile".into(), json!({"type": "RuntimeDefault"}));
        for (key, value) in [
            ("runAsUser", options.user.user),
            ("runAsGroup", options.user.group),
            ("fsGroup", options.user.fs_group),
        ] {
            if let Some(value) = value {
                security.insert(key.into(), value.into());
            }
        }
        if options.user.fs_group.is_some() {
            // Else every start walks through all files of the volumes.
            security.insert("fsGroupChangePolicy".into(), "OnRootMismatch".into());
        }
        let mut spec = Map::new();
        spec.insert("securityContext".into(), Value::Object(security));
        spec.insert("automountServiceAccountToken".into(), false.into());
        // Variables for every Service of the namespace could hide the devfile's own.
        spec.insert("enableServiceLinks".into(), false.into());
        spec.insert(
            "terminationGracePeriodSeconds".into(),
            lifecycle::GRACE_SECONDS.into(),
        );
        if let Some(account) = &options.service_account {
            spec.insert("serviceAccountName".into(), account.clone().into());
        }
        if let Some(class) = &options.runtime_class {
            spec.insert("runtimeClassName".into(), class.clone().into());
        }
        if options.user_namespaces {
            spec.insert("hostUsers".into(), false.into());
        }
        if !options.image_pull_secrets.is_empty() {
            let secrets: Vec<Value> = options
                .image_pull_secrets
                .iter()
                .map(|name| json!({"name": name}))
                .collect();
            spec.insert("imagePullSecrets".into(), secrets.into());
        }
        spec
    }

    fn container(&self, component: &Component, container: &Container, notes: &mut Notes) -> Value {
        let name = component.name.as_str();
        let mut value = self.common(name, component, container);
        if self.idles(name, container) {
            value.insert("command".into(), json!(["/bin/sh", "-c", IDLE]));
            notes.add(
                format!("components[name={name}].container.command"),
                "a shell that waits is started instead of the image's entrypoint",
                "commands run in this container, and the entrypoints of tools' images end at once",
            );
        }
        let editor = self.editor_in(name);
        if let Some(editor) = editor {
            editor.widen(&mut value["resources"]);
            let mounts = value.entry("volumeMounts").or_insert_with(|| json!([]));
            if let Some(mounts) = mounts.as_array_mut() {
                mounts.push(editor.mount());
            }
        }
        let ports = network::container_ports(&self.endpoints(component, container));
        if !ports.is_empty() {
            value.insert("ports".into(), ports.into());
        }
        let mut hooks = Map::new();
        let mut script =
            editor.map_or_else(String::new, |it| lifecycle::editor_script(it.editor()));
        if let Some(steps) = self.plan.post_start.get(name) {
            script.push_str(&lifecycle::post_start_script(steps));
        }
        if !script.is_empty() {
            hooks.insert("postStart".into(), hook(&script));
        }
        if let Some(steps) = self.plan.pre_stop.get(name) {
            let script = lifecycle::pre_stop_script(steps);
            hooks.insert("preStop".into(), hook(&script));
        }
        if !hooks.is_empty() {
            value.insert("lifecycle".into(), Value::Object(hooks));
        }
        overrides::container(component, self.options, &mut value, notes);
        Value::Object(value)
    }

    /// The editor, if it is in this container.
    fn editor_in(&self, component: &str) -> Option<&Placement<'_>> {
        self.editor.filter(|editor| editor.is_in(component))
    }

    /// A container's endpoints, with the editor's.
    fn endpoints(&self, component: &Component, container: &Container) -> Vec<Endpoint> {
        let mut endpoints = container.endpoints.clone();
        endpoints.extend(self.editor_in(&component.name).map(Placement::endpoint));
        endpoints
    }

    /// What all containers have in common.
    fn common(
        &self,
        name: &str,
        component: &Component,
        container: &Container,
    ) -> Map<String, Value> {
        let options = self.options;
        let mut value = Map::new();
        value.insert("name".into(), name.into());
        value.insert("image".into(), container.image.clone().into());
        if let Some(policy) = &options.image_pull_policy {
            value.insert("imagePullPolicy".into(), policy.clone().into());
        }
        if !container.command.is_empty() {
            value.insert("command".into(), json!(container.command));
        }
        if !container.args.is_empty() {
            value.insert("args".into(), json!(container.args));
        }
        let env = self.env(component, container);
        if !env.is_empty() {
            value.insert("env".into(), env.into());
        }
        value.insert(
            "resources".into(),
            resources::resources(container, &options.resources),
        );
        let mounts = self.storage.mounts(container);
        if !mounts.is_empty() {
            value.insert("volumeMounts".into(), mounts.into());
        }
        let security = match options.allow_privilege_escalation {
            true => json!({"allowPrivilegeEscalation": true}),
            false => json!({
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
            }),
        };
        value.insert("securityContext".into(), security);
        value
    }

    fn env(&self, component: &Component, container: &Container) -> Vec<Value> {
        let options = self.options;
        let mut all: Vec<(String, String)> = Vec::new();
        if container.mounts_sources() {
            let root = container.projects_root();
            all.push(("PROJECTS_ROOT".into(), root.to_owned()));
            all.push((
                "PROJECT_SOURCE".into(),
                projects::project_source(self.devfile, options, root),
            ));
            if let Some(home) = &options.home {
                all.push(("HOME".into(), home.clone()));
            }
        }
        all.push(("DEVFILE_COMPONENT_NAME".into(), component.name.clone()));
        let of_devfile = container.env.iter();
        let mut given: Vec<(String, String)> = of_devfile
            .map(|env| (env.name.clone(), env.value.clone()))
            .chain(options.env.iter().cloned())
            .collect();
        if container.mounts_sources() {
            let configuration = git::environment(&given, &options.git_config);
            // The number of all settings takes the place of the devfile's.
            given.retain(|(name, _)| configuration.iter().all(|(ours, _)| ours != name));
            all.extend(configuration);
        }
        all.extend(given);
        // The last of several with one name wins; a list with both is refused by server-side apply.
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, (name, _)) in all.iter().enumerate() {
            last.insert(name, at);
        }
        all.iter()
            .enumerate()
            .filter(|(at, (name, _))| last.get(name.as_str()) == Some(at))
            .map(|(_, (name, value))| json!({"name": name, "value": value}))
            .collect()
    }

    fn idles(&self, name: &str, container: &Container) -> bool {
        let silent = container.command.is_empty() && container.args.is_empty();
        silent
            && match self.options.entrypoint {
                Entrypoint::Image => false,
                Entrypoint::Idle => true,
                Entrypoint::IdleForCommands => {
                    self.plan.exec_targets.contains(name) || self.editor_in(name).is_some()
                }
            }
    }

    fn init_containers(&self, notes: &mut Notes) -> Vec<Value> {
        let mut names = BTreeSet::new();
        self.plan
            .init
            .iter()
            .enumerate()
            .filter_map(|(position, (command, component))| {
                let (component, container) = self
                    .devfile
                    .containers()
                    .find(|(own, _)| own.name == *component)?;
                let mut name = cut_name(&format!("{}-{command}", component.name), 58);
                if !names.insert(name.clone()) {
                    name = format!("{name}-{}", position + 1);
                }
                let mut value = self.common(&name, component, container);
                overrides::container(component, self.options, &mut value, notes);
                Some(Value::Object(value))
            })
            .collect()
    }
}

fn hook(script: &str) -> Value {
    json!({"exec": {"command": ["/bin/sh", "-c", script]}})
}
