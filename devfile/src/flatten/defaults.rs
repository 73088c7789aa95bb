//! Booleans that were left out, written with their defaults as the Go library writes them.

use crate::node::{Node, Value};
use crate::schema::Version;

/// Writes the defaults.
pub(super) fn write_booleans(content: &mut Node, version: Version) {
    each(content, "commands", |command| {
        for (kind, field) in [
            ("exec", Some("hotReloadCapable")),
            ("composite", Some("parallel")),
            ("apply", None),
        ] {
            if let Some(body) = command.get_mut(kind) {
                if let Some(field) = field {
                    set_default(body, field, false);
                }
                if let Some(group) = body.get_mut("group") {
                    set_default(group, "isDefault", false);
                }
            }
        }
    });
    each(content, "components", |component| {
        if let Some(container) = component.get_mut("container") {
            set_default(container, "dedicatedPod", false);
            let dedicated = matches!(
                container.get("dedicatedPod").map(|node| &node.value),
                Some(Value::Bool(true))
            );
            set_default(container, "mountSources", !dedicated);
            each(container, "endpoints", |endpoint| {
                set_default(endpoint, "secure", false);
            });
        }
        for kind in ["kubernetes", "openshift"] {
            if let Some(objects) = component.get_mut(kind) {
                if version >= Version::V2_2_0 {
                    set_default(objects, "deployByDefault", false);
                }
                each(objects, "endpoints", |endpoint| {
                    set_default(endpoint, "secure", false);
                });
            }
        }
        if version != Version::V2_0_0
            && let Some(volume) = component.get_mut("volume")
        {
            set_default(volume, "ephemeral", false);
        }
        if let Some(image) = component.get_mut("image") {
            if let Some(dockerfile) = image.get_mut("dockerfile") {
                set_default(dockerfile, "rootRequired", false);
            }
            set_default(image, "autoBuild", false);
        }
    });
}

fn each(node: &mut Node, list: &str, mut change: impl FnMut(&mut Node)) {
    if let Some(Node {
        value: Value::List(items),
        ..
    }) = node.get_mut(list)
    {
        items.iter_mut().for_each(&mut change);
    }
}

fn set_default(node: &mut Node, key: &str, value: bool) {
    if node.get(key).is_none() {
        let place = node.place;
        node.set(key, Node::new(place, Value::Bool(value)));
    }
}
