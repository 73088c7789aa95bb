//! What of the agent's configuration a workspace was rendered with, against the file as it is now. Pure.
//!
//! Of each field a hash is kept, and only where it says something else than the default: a file can be large, and there are
//! many workspaces.

use std::collections::BTreeMap;

use model::configuration::{ApplyChanges, RemoteDevelopment};
use serde::{Deserialize, Serialize};

use crate::configuration::{Good, NO_COMMIT};

/// Before the name of a class: each is a field of its own, since a workspace is of one.
const CLASSES: &str = "classes.";
/// Bytes of a hash that are kept: it is compared, not defended.
const HASH_BYTES: usize = 8;

/// What a workspace's objects were rendered with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RenderedWith {
    /// Of the configuration file.
    pub(crate) commit: String,
    fields: BTreeMap<String, String>,
}

/// What an existing workspace runs with, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Against {
    /// The commit of the configuration file that its objects were rendered with. Null: there was no file, or it was not kept.
    pub(crate) commit: Option<String>,
    /// Rendered now, its objects would be made of the same settings.
    pub(crate) current: bool,
    /// The fields that say something else by now.
    pub(crate) differs: Vec<String>,
    /// When the difference reaches it.
    pub(crate) applies: ApplyChanges,
}

impl RenderedWith {
    /// What is rendered with this file.
    pub(crate) fn of(good: &Good) -> Self {
        Self {
            commit: good.workspaces_commit().to_owned(),
            fields: fields(&good.configuration.remote_development),
        }
    }

    /// What of it a workspace of this class is rendered with.
    pub(crate) fn of_class(&self, class: Option<&str>) -> Self {
        let is_of = |name: &str| {
            name.strip_prefix(CLASSES)
                .is_none_or(|it| Some(it) == class)
        };
        let fields = self.fields.iter().filter(|(name, _)| is_of(name));
        Self {
            commit: self.commit.clone(),
            fields: fields
                .map(|(name, hash)| (name.clone(), hash.clone()))
                .collect(),
        }
    }

    /// Whether the settings are the same, be it by another commit.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.fields == other.fields
    }

    /// The fields that differ.
    pub(crate) fn differs(&self, other: &Self) -> Vec<String> {
        let names = self.fields.keys().chain(other.fields.keys());
        let mut names: Vec<_> = names
            .filter(|name| self.fields.get(*name) != other.fields.get(*name))
            .cloned()
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// How a workspace stands to the file, with which it would be rendered so now.
pub(crate) fn against(
    rendered: Option<&RenderedWith>,
    now: &RenderedWith,
    applies: ApplyChanges,
) -> Against {
    Against {
        commit: rendered
            .map(|it| it.commit.clone())
            .filter(|it| it != NO_COMMIT),
        current: rendered.is_some_and(|it| it.is_same(now)),
        differs: rendered.map_or_else(Vec::new, |it| it.differs(now)),
        applies,
    }
}

/// When a changed file reaches a workspace. What is turned off leaves them as they are.
pub(crate) fn applies(good: &Good) -> ApplyChanges {
    let settings = &good.configuration.remote_development;
    match settings.enabled {
        true => settings.apply_changes,
        false => ApplyChanges::Never,
    }
}

/// The fields that objects are made of, by name. Every field of the section is in one of three groups: these; what counts
/// for all workspaces as it is now; and what a workspace keeps from its creation, whatever the file says later.
fn fields(settings: &RemoteDevelopment) -> BTreeMap<String, String> {
    let RemoteDevelopment {
        // Count as they are now.
        enabled: _,
        workspaces_quota: _,
        workspaces_per_user_quota: _,
        max_active_hours_before_stop: _,
        max_stopped_hours_before_termination: _,
        apply_changes: _,
        // Chosen at creation.
        shared_namespace: _,
        backend: _,
        editors: _,
        // Rendered.
        dns_zone,
        gitlab_workspaces_proxy,
        network_policy,
        default_resources_per_workspace_container,
        max_resources_per_workspace,
        use_kubernetes_user_namespaces,
        default_runtime_class,
        allow_privilege_escalation,
        image_pull_secrets,
        annotations,
        labels,
        classes,
    } = settings;
    let usual = RemoteDevelopment::default();
    let mut fields = BTreeMap::new();
    macro_rules! keep {
        ($($field:ident),* $(,)?) => {$(
            if *$field != usual.$field {
                fields.insert(stringify!($field).to_owned(), hash($field));
            }
        )*};
    }
    keep!(
        dns_zone,
        gitlab_workspaces_proxy,
        network_policy,
        default_resources_per_workspace_container,
        max_resources_per_workspace,
        use_kubernetes_user_namespaces,
        default_runtime_class,
        allow_privilege_escalation,
        image_pull_secrets,
        annotations,
        labels,
    );
    for class in classes {
        fields.insert(format!("{CLASSES}{}", class.name), hash(&class.resources));
    }
    fields
}

fn hash(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).expect("settings are JSON");
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref()[..HASH_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use model::configuration::{Class, ConfigurationFile, ResourceAmounts, Resources};

    use super::*;

    fn good(commit: &str, change: impl FnOnce(&mut RemoteDevelopment)) -> Good {
        let mut configuration = ConfigurationFile::default();
        configuration.remote_development.enabled = true;
        change(&mut configuration.remote_development);
        Good {
            commit: commit.into(),
            older: Arc::default(),
            configuration: Arc::new(configuration),
            notes: Arc::default(),
            applied_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn only_what_objects_are_made_of_makes_a_difference() {
        let label = |settings: &mut RemoteDevelopment, value: &str| {
            settings.labels.insert("team".into(), value.into());
        };
        let before = RenderedWith::of(&good("1", |it| label(it, "a")));
        let differs = |now: Good| against(Some(&before), &RenderedWith::of(&now), applies(&now));
        let same = differs(good("2", |it| {
            label(it, "a");
            it.workspaces_quota = Some(1);
            it.max_active_hours_before_stop = 1;
            it.shared_namespace = "all".into();
        }));
        assert!(same.current && same.differs.is_empty());
        assert_eq!(same.commit.as_deref(), Some("1"));
        assert_eq!(same.applies, ApplyChanges::OnRestart);
        let other = differs(good("2", |it| {
            label(it, "b");
            it.default_runtime_class = "gvisor".into();
            it.apply_changes = ApplyChanges::Now;
        }));
        assert!(!other.current);
        assert_eq!(other.differs, ["default_runtime_class", "labels"]);
        assert_eq!(other.applies, ApplyChanges::Now);
        let off = differs(good("3", |it| it.enabled = false));
        assert_eq!(off.applies, ApplyChanges::Never);
        let gone = differs(good("3", |_| {}));
        assert_eq!(
            (gone.current, &gone.differs[..]),
            (false, &["labels".to_owned()][..])
        );
    }

    #[test]
    fn of_the_classes_only_the_workspaces_own_makes_a_difference() {
        let class = |name: &str, cpu: &str| Class {
            name: name.into(),
            resources: Resources {
                limits: ResourceAmounts {
                    cpu: Some(cpu.into()),
                    memory: None,
                },
                requests: ResourceAmounts::default(),
            },
        };
        let of = |cpus: [&str; 2]| {
            RenderedWith::of(&good("1", |it| {
                it.classes = vec![class("small", cpus[0]), class("large", cpus[1])];
            }))
        };
        let (before, after) = (of(["1", "8"]), of(["1", "16"]));
        for (name, expected) in [
            (None, vec![]),
            (Some("small"), vec![]),
            (Some("large"), vec!["classes.large"]),
        ] {
            let differs = before.of_class(name).differs(&after.of_class(name));
            assert_eq!(differs, expected);
        }
    }

    #[test]
    fn what_was_made_before_this_was_kept_is_not_current() {
        let now = RenderedWith::of(&good("1", |_| {}));
        let unknown = against(None, &now, ApplyChanges::Now);
        assert_eq!(unknown.commit, None);
        assert!(!unknown.current && unknown.differs.is_empty());
        let without_file = RenderedWith::of(&good(NO_COMMIT, |_| {}));
        let shown = against(Some(&without_file), &now, ApplyChanges::Now);
        assert_eq!((shown.commit, shown.current), (None, true));
    }
}
