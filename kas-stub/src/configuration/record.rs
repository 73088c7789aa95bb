//! How an agent's configuration is kept over a restart.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use model::configuration::{Judged, Note, Section, judge};
use serde::{Deserialize, Serialize};

use super::{ConfigurationError, Good, NO_COMMIT, State};
use crate::store::{Kind, Store, Write};

/// What is kept, with its version in the store.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) record: Record,
    version: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    /// The last commit judged, good or not: it need not be fetched again.
    pub(super) seen: Option<String>,
    pub(super) good: Option<GoodRecord>,
    /// What was wrong with the last commit judged.
    pub(super) error: Option<ConfigurationError>,
}

/// The files that the configuration in force is made of. Their texts are kept, not what they mean, so that a newer version
/// of this program reads keys that this one does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GoodRecord {
    #[serde(flatten)]
    newest: FileRecord,
    applied_at: Timestamp,
    /// Where sections are from that are wrong in the newest.
    #[serde(default)]
    older: BTreeMap<Section, FileRecord>,
}

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    pub(super) commit: String,
    /// The file's text; none when the commit has no file.
    pub(super) text: Option<String>,
}

impl Kept {
    pub(super) fn state(&self) -> State {
        let mut state = State {
            good: self.record.good.as_ref().and_then(GoodRecord::good),
            error: self.record.error.clone(),
        };
        if state.error.is_some() {
            state.ensure_good();
        }
        state
    }

    /// Writes; a failure is logged, and costs no more than reading the project again after a restart.
    pub(super) async fn write(&mut self, store: &dyn Store, agent_id: u64) {
        let Ok(body) = serde_json::to_string(&self.record) else {
            return;
        };
        let write = Write {
            kind: Kind::Configuration,
            id: agent_id.to_string(),
            expected_version: self.version,
            body: Some(body),
        };
        match store.append(vec![write]).await {
            Ok(()) => self.version += 1,
            Err(error) => {
                tracing::warn!(agent = agent_id, error = %chain(&error), "configuration could not be kept");
            }
        }
    }
}

impl GoodRecord {
    /// What is in force when `newest` follows `before`: its right sections, and of each wrong one the last right one.
    /// `None` when nothing of it can be used.
    pub(super) fn follow(
        before: Option<&Self>,
        newest: FileRecord,
        judged: &Judged,
        applied_at: Timestamp,
    ) -> Option<Self> {
        let is_used = Section::ALL.iter().any(|it| !judged.wrong.contains(it));
        let older = judged.wrong.iter().map(|section| {
            let file = match before {
                None => FileRecord::none(),
                Some(before) => before.older.get(section).unwrap_or(&before.newest).clone(),
            };
            (*section, file)
        });
        is_used.then(|| Self {
            newest,
            applied_at,
            older: older.collect(),
        })
    }

    /// What it means; `None` when a section that was right is wrong to this version of the program.
    pub(super) fn good(&self) -> Option<Good> {
        let Judged {
            mut configuration,
            mut notes,
            problems: _,
            wrong,
        } = self.newest.judge();
        if wrong
            .iter()
            .any(|section| !self.older.contains_key(section))
        {
            return None;
        }
        for (section, file) in &self.older {
            let older = file.judge();
            if older.wrong.contains(section) {
                return None;
            }
            configuration.take(*section, &older.configuration);
            let is_of_section = |note: &Note| {
                let rest = note.field.strip_prefix(section.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            notes.retain(|note| !is_of_section(note));
            notes.extend(older.notes.into_iter().filter(is_of_section));
        }
        let commits = self.older.iter();
        let commits = commits.map(|(section, file)| (*section, file.commit.clone()));
        Some(Good {
            commit: self.newest.commit.clone(),
            older: Arc::new(commits.collect()),
            configuration: configuration.into(),
            notes: notes.into(),
            applied_at: self.applied_at,
        })
    }
}

impl FileRecord {
    /// What is in force before any file is.
    fn none() -> Self {
        Self {
            commit: NO_COMMIT.to_owned(),
            text: None,
        }
    }

    pub(super) fn judge(&self) -> Judged {
        match &self.text {
            Some(text) => judge(text),
            None => Judged {
                notes: vec![Note {
                    field: String::new(),
                    reason: "the project has no such file; the agent runs with the defaults".into(),
                }],
                ..Judged::default()
            },
        }
    }
}

/// What is kept of an agent; nothing when it cannot be read, so that it is read from the project again.
pub(super) async fn load(store: &dyn Store, agent_id: u64) -> Kept {
    let found = store.load(Kind::Configuration, &agent_id.to_string()).await;
    let Some(found) = found.ok().flatten() else {
        return Kept::default();
    };
    let mut record: Record = serde_json::from_str(&found.body).unwrap_or_default();
    if record
        .good
        .as_ref()
        .is_some_and(|good| good.good().is_none())
    {
        // A newer version of this program judges the file otherwise: look at the project again.
        record = Record::default();
    }
    Kept {
        record,
        version: found.version,
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(before: Option<&GoodRecord>, commit: &str, text: &str) -> Option<GoodRecord> {
        let file = FileRecord {
            commit: commit.into(),
            text: Some(text.into()),
        };
        let judged = file.judge();
        GoodRecord::follow(before, file, &judged, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn each_section_keeps_its_own_last_good_value() {
        let first = follow(
            None,
            "1",
            "observability: {logging: {level: debug}}\nremote_development: {enabled: true, full_sync_interval: 1s}",
        );
        let first = first.unwrap();
        let second = follow(
            Some(&first),
            "2",
            "observability: {logging: {level: warn}}\nremote_development: {enabled: 7}",
        );
        let second = second.unwrap();
        let good = second.good().unwrap();
        assert_eq!(good.commit, "2");
        assert_eq!(
            good.configuration.observability.logging.level.as_str(),
            "warn"
        );
        assert!(good.configuration.remote_development.enabled);
        assert_eq!(
            *good.older,
            BTreeMap::from([(Section::RemoteDevelopment, "1".to_owned())])
        );
        assert_eq!(good.notes.len(), 1, "of the section in force: {good:?}");

        // Wrong again: still what was right, not the file between.
        let third = follow(Some(&second), "3", "remote_development: {enabled: 8}").unwrap();
        let good = third.good().unwrap();
        assert!(good.configuration.remote_development.enabled);
        assert_eq!(good.older[&Section::RemoteDevelopment], "1");
        assert_eq!(
            good.configuration.observability.logging.level.as_str(),
            "info"
        );

        // No YAML: nothing of it is used.
        assert_eq!(follow(Some(&third), "4", "a: ["), None);
        let fifth = follow(Some(&third), "5", "remote_development: {}").unwrap();
        let good = fifth.good().unwrap();
        assert!(!good.configuration.remote_development.enabled && good.older.is_empty());
    }

    #[test]
    fn a_first_file_with_a_wrong_section_leaves_that_one_at_its_default() {
        let record = follow(
            None,
            "1",
            "user_access: 1\nremote_development: {enabled: true}",
        );
        let good = record.unwrap().good().unwrap();
        assert_eq!(good.configuration.user_access, None);
        assert!(good.configuration.remote_development.enabled);
        assert_eq!(good.older[&Section::UserAccess], NO_COMMIT);
        assert_eq!(good.notes.len(), 0);
    }

    #[test]
    fn what_is_kept_is_read_again_and_judged_again() {
        let record = follow(
            None,
            "1",
            "user_access: 1\nremote_development: {enabled: true}",
        );
        let record = record.unwrap();
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<GoodRecord>(&text).unwrap(), record);
        let mut other = record;
        other.older.clear();
        assert_eq!(other.good(), None, "wrong to this version: read it again");
        let old =
            r#"{"commit":"1","text":"remote_development: {}","applied_at":"2026-01-01T00:00:00Z"}"#;
        let old: GoodRecord = serde_json::from_str(old).unwrap();
        assert_eq!(old.good().unwrap().commit, "1");
    }
}
