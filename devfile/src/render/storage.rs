//! Volumes: a claim or an empty folder for each volume component, and one for the sources and HOME.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::names::{MAX_NAME, cut_name};
use super::{Notes, RenderOptions, metadata};
use crate::model::{Container, Devfile};

/// The volume with sources and HOME. A devfile may define it to choose its size.
pub(super) const PROJECTS: &str = "projects";
const PROJECTS_FOLDER: &str = "projects";
const HOME_FOLDER: &str = "home";

/// All volumes a workspace may have.
pub(super) struct Storage {
    volumes: Vec<Planned>,
    home: Option<String>,
}

struct Planned {
    name: String,
    size: Option<String>,
    ephemeral: bool,
}

pub(super) fn plan(devfile: &Devfile, options: &RenderOptions, notes: &mut Notes) -> Storage {
    let defaults = &options.storage;
    let mut volumes: Vec<Planned> = Vec::new();
    for (component, volume) in devfile.volumes() {
        let own_size = volume.size.clone().filter(|size| !size.is_empty());
        let ephemeral = volume.ephemeral.unwrap_or(false) || defaults.ephemeral;
        let default = if component.name == PROJECTS {
            &defaults.projects_size
        } else {
            &defaults.volume_size
        };
        if ephemeral && volume.ephemeral != Some(true) {
            notes.add(
                format!("components[name={}].volume", component.name),
                "the volume ends with the Pod",
                "the workspace's storage was asked to be ephemeral",
            );
        }
        volumes.push(Planned {
            name: component.name.clone(),
            size: own_size.or_else(|| (!ephemeral).then(|| default.clone())),
            ephemeral,
        });
    }
    if !volumes.iter().any(|volume| volume.name == PROJECTS) {
        volumes.insert(
            0,
            Planned {
                name: PROJECTS.into(),
                size: Some(defaults.projects_size.clone()),
                ephemeral: defaults.ephemeral,
            },
        );
    }
    let any_sources = devfile
        .containers()
        .any(|(_, container)| container.mounts_sources());
    if !any_sources && options.home.is_none() {
        let used = |name: &str| {
            devfile.containers().any(|(_, container)| {
                container
                    .volume_mounts
                    .iter()
                    .any(|mount| mount.name == name)
            })
        };
        if !used(PROJECTS) {
            volumes.retain(|volume| volume.name != PROJECTS);
        }
    }
    Storage {
        volumes,
        home: options.home.clone(),
    }
}

impl Storage {
    /// The claims of all volumes that outlive a Pod.
    pub(super) fn claims(&self, options: &RenderOptions) -> Vec<Value> {
        self.volumes
            .iter()
            .filter(|volume| !volume.ephemeral)
            .map(|volume| {
                let mut spec = Map::new();
                spec.insert("accessModes".into(), json!(["ReadWriteOnce"]));
                let size = volume.size.clone().unwrap_or_default();
                spec.insert("resources".into(), json!({"requests": {"storage": size}}));
                if let Some(class) = &options.storage.class {
                    spec.insert("storageClassName".into(), class.clone().into());
                }
                json!({
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": metadata(options, &claim_name(options, &volume.name)),
                    "spec": spec,
                })
            })
            .collect()
    }

    /// The mounts of a container, its own and those of sources and HOME.
    pub(super) fn mounts(&self, container: &Container) -> Vec<Value> {
        let mut mounts = Vec::new();
        let mut paths = BTreeSet::new();
        for mount in &container.volume_mounts {
            let path = mount.mount_path();
            if paths.insert(path.clone()) {
                let mut value = json!({"name": mount.name, "mountPath": path});
                // The volume of sources and HOME is a folder of each; who mounts it wants the sources.
                if mount.name == PROJECTS {
                    value["subPath"] = PROJECTS_FOLDER.into();
                }
                mounts.push(value);
            }
        }
        if container.mounts_sources() && paths.insert(container.projects_root().to_owned()) {
            mounts.insert(0, self.sources_mount(container.projects_root()));
        }
        // A container in which the devfile mounts something into HOME keeps that.
        if let Some(home) = &self.home
            && container.mounts_sources()
            && paths.insert(home.clone())
        {
            mounts.push(json!({"name": PROJECTS, "mountPath": home, "subPath": HOME_FOLDER}));
        }
        mounts
    }

    pub(super) fn sources_mount(&self, root: &str) -> Value {
        json!({"name": PROJECTS, "mountPath": root, "subPath": PROJECTS_FOLDER})
    }

    /// The volumes of a Pod: those that its containers mount.
    pub(super) fn volumes(
        &self,
        options: &RenderOptions,
        mounted: &BTreeSet<String>,
    ) -> Vec<Value> {
        self.volumes
            .iter()
            .filter(|volume| mounted.contains(&volume.name))
            .map(|volume| {
                if volume.ephemeral {
                    let empty = match &volume.size {
                        Some(size) => json!({"sizeLimit": size}),
                        None => json!({}),
                    };
                    json!({"name": volume.name, "emptyDir": empty})
                } else {
                    json!({
                        "name": volume.name,
                        "persistentVolumeClaim": {"claimName": claim_name(options, &volume.name)},
                    })
                }
            })
            .collect()
    }
}

fn claim_name(options: &RenderOptions, volume: &str) -> String {
    cut_name(&format!("{}-{volume}", options.name), MAX_NAME)
}
