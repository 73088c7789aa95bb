//! Volumes: one of the workspace's own, and those of the devfile.

use serde_json::{Value, json};

use super::{Flattened, Frame};

/// Projects and home; GitLab's name.
pub(super) const DATA: &str = "gl-workspace-data";
/// Where projects are, unless a container says otherwise.
pub(super) const PROJECTS_ROOT: &str = "/projects";
/// A home that no image has, so that mounting over it hides nothing.
pub(super) const HOME: &str = "/home/workspace";

/// The claims of all volumes that outlive a Pod.
pub(crate) fn claims(frame: &Frame<'_>, devfile: &Flattened) -> Vec<Value> {
    let data = claim(frame, DATA, None);
    let own = devfile
        .volumes()
        .filter(|(name, volume)| !is_ephemeral(volume) && *name != DATA)
        .map(|(name, volume)| claim(frame, name, volume["size"].as_str()));
    std::iter::once(data).chain(own).collect()
}

fn claim(frame: &Frame<'_>, volume: &str, size: Option<&str>) -> Value {
    let defaults = frame.defaults;
    let mut claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": claim_name(frame, volume) },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": size.unwrap_or(&defaults.volume_size) } },
        },
    });
    if let Some(class) = &defaults.storage_class {
        claim["spec"]["storageClassName"] = class.as_str().into();
    }
    claim
}

fn claim_name(frame: &Frame<'_>, volume: &str) -> String {
    format!("{}-{volume}", frame.name)
}

/// The Pod's volumes.
pub(super) fn pod_volumes(frame: &Frame<'_>, devfile: &Flattened) -> Vec<Value> {
    let of_claim = |name: &str| {
        json!({
            "name": name,
            "persistentVolumeClaim": { "claimName": claim_name(frame, name) },
        })
    };
    let own = devfile.volumes().filter(|(name, _)| *name != DATA).map(|(name, volume)| {
        match (is_ephemeral(volume), volume["size"].as_str()) {
            (false, _) => of_claim(name),
            (true, None) => json!({ "name": name, "emptyDir": {} }),
            (true, Some(size)) => json!({ "name": name, "emptyDir": { "sizeLimit": size } }),
        }
    });
    std::iter::once(of_claim(DATA)).chain(own).collect()
}

/// Where the workspace's own volume is mounted: the home always, the projects where a container wants them.
pub(super) fn data_mounts(projects_root: Option<&str>) -> Vec<Value> {
    let home = json!({ "name": DATA, "mountPath": HOME, "subPath": "home" });
    let projects = projects_root
        .map(|root| json!({ "name": DATA, "mountPath": root, "subPath": "projects" }));
    std::iter::once(home).chain(projects).collect()
}

fn is_ephemeral(volume: &Value) -> bool {
    volume["ephemeral"].as_bool() == Some(true)
}
