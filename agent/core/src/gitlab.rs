//! What GitLab's JSON reconcile says, made into what the reconciler knows.
//!
//! ```text
//!  workspace_rails_infos ──▶ Info ──▶ Book::take ──▶ DesiredWorkspace, Content ──▶ Reconciler
//! ```
//! GitLab's answers know no generations, name a workspace's id only inside its objects, and are partial: what changed may
//! come without the rest. The [`Book`] remembers the rest, so that the reconciler always gets a complete set. Absent never
//! means delete: an object is let go only by an answer that is complete. (GitLab 18.9, `config_to_apply_builder.rb`)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{ActualState, DesiredState, WorkspaceName};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::reconcile::{
    AGENT_ID_LABEL, Content, DesiredWorkspace, INVENTORY_ID_LABEL, Inventory, MAX_OBJECTS,
    MAX_WORKSPACE_BYTES, MAX_WORKSPACES, OWNING_INVENTORY_ANNOTATION, Place,
    WORKSPACE_ID_ANNOTATION, WorkspaceId,
};

/// GitLab counts nothing: every wish has this generation, and differs from the one before by its content.
const GENERATION: u64 = 1;
/// The longest id of a workspace.
const MAX_ID_BYTES: usize = 63;

/// One of `workspace_rails_infos`, read and still to be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// The workspace's name.
    pub name: WorkspaceName,
    /// Its namespace.
    pub namespace: String,
    /// What it should be.
    pub desired: DesiredState,
    /// What the server takes it for.
    pub actual: ActualState,
    /// The documents of `config_to_apply`, empty where it was empty, or why they cannot be read.
    pub documents: Result<Vec<Value>, String>,
    /// Copies of its pull secrets, without marks; `None`: those that are known stay.
    pub pull_secrets: Option<Vec<Value>>,
}

/// A complete set of objects, by kind and name.
type Objects = BTreeMap<(String, String), (String, Arc<str>)>;

#[derive(Debug, Default)]
struct Page {
    /// The workspace's id, as the agent's inventory or an answer named it.
    id: Option<WorkspaceId>,
    objects: Objects,
    pull_secrets: Objects,
}

/// What is known of all workspaces between answers. It lives as long as the conversation that began with a full one.
#[derive(Debug)]
pub struct Book {
    agent_id: i64,
    shared_namespace: Option<String>,
    pages: BTreeMap<Place, Page>,
}

impl Book {
    /// Begins. `shared_namespace` is the one that workspaces share, where they do.
    #[must_use]
    pub fn new(agent_id: i64, shared_namespace: Option<String>) -> Self {
        Self {
            agent_id,
            shared_namespace,
            pages: BTreeMap::new(),
        }
    }

    /// The agent holds this workspace: an answer that names no id means it. One that an answer named stays.
    pub fn holds(&mut self, place: &Place, id: &WorkspaceId) {
        if let Some(page) = self.page(place) {
            page.id.get_or_insert_with(|| Arc::clone(id));
        }
    }

    /// Takes an answer in. `is_full`: it belongs to a full poll, so what it holds is everything. `None`: it is over.
    pub fn take(&mut self, info: Info, is_full: bool) -> Option<(DesiredWorkspace, Content)> {
        let Info {
            name,
            namespace,
            desired: state,
            actual,
            documents,
            pull_secrets,
        } = info;
        let place = Place { namespace, name };
        if (state, actual) == (DesiredState::Terminated, ActualState::Terminated) {
            self.pages.remove(&place);
            return None;
        }
        let own_namespace = self.shared_namespace.as_ref() != Some(&place.namespace);
        let agent_id = self.agent_id;
        let desired = |id: &str| DesiredWorkspace {
            id: id.to_owned(),
            name: place.name.clone(),
            namespace: place.namespace.clone(),
            own_namespace,
            generation: GENERATION,
            state,
            objects: BTreeMap::new(),
        };
        // Nothing in a cluster carries it, so nothing can be deleted by it.
        let unknown = format!("{}/{}", place.namespace, place.name);
        let Some(page) = self.page(&place) else {
            let reason = format!("this agent holds {MAX_WORKSPACES} workspaces, and no more");
            return Some((desired(&unknown), Content::Broken(reason)));
        };
        let content = page.write(&place, agent_id, state, documents, pull_secrets, is_full)?;
        let id = page.id.as_deref().unwrap_or(&unknown);
        Some((desired(id), content))
    }

    /// Whether a report is about the workspace that the server means; another can be in its place.
    #[must_use]
    pub fn means(&self, place: &Place, id: &WorkspaceId) -> bool {
        let meant = self.pages.get(place).and_then(|page| page.id.as_ref());
        meant.is_none_or(|meant| meant == id)
    }

    fn page(&mut self, place: &Place) -> Option<&mut Page> {
        if self.pages.len() >= MAX_WORKSPACES && !self.pages.contains_key(place) {
            return None;
        }
        Some(self.pages.entry(place.clone()).or_default())
    }
}

impl Page {
    /// `None`: the server says no more of a workspace that is not here than that it is.
    fn write(
        &mut self,
        place: &Place,
        agent_id: i64,
        state: DesiredState,
        documents: Result<Vec<Value>, String>,
        pull_secrets: Option<Vec<Value>>,
        is_full: bool,
    ) -> Option<Content> {
        let read = match documents.and_then(Documents::read) {
            Ok(read) => read,
            Err(reason) => return Some(Content::Broken(reason)),
        };
        if let Some(id) = read.id {
            self.id = Some(id);
        }
        if state == DesiredState::Terminated {
            return Some(Content::Objects(Vec::new()));
        }
        let Some(id) = self.id.clone() else {
            let reason = format!("no object has the annotation {WORKSPACE_ID_ANNOTATION}");
            return (!read.is_empty).then_some(Content::Broken(reason));
        };
        let marks = Marks {
            place,
            agent_id,
            id: &id,
        };
        let before = (self.objects.clone(), self.pull_secrets.clone());
        if !read.is_empty {
            if is_full || read.is_whole {
                self.objects.clear();
            }
            self.objects
                .extend(read.objects.into_iter().map(|it| marks.put_on(it)));
        }
        if let Some(secrets) = pull_secrets {
            self.pull_secrets = secrets.into_iter().map(|it| marks.put_on(it)).collect();
        }
        if read.is_empty && self.pull_secrets == before.1 {
            return Some(Content::Unchanged);
        }
        let all = self.pull_secrets.iter().chain(&self.objects);
        let all: Objects = all
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        let bytes: usize = all.values().map(|(_, text)| text.len()).sum();
        if all.len() > MAX_OBJECTS || bytes > MAX_WORKSPACE_BYTES {
            (self.objects, self.pull_secrets) = before;
            return Some(Content::Broken(format!(
                "{} objects of {bytes} bytes; a workspace may have {MAX_OBJECTS} of together {MAX_WORKSPACE_BYTES}",
                all.len()
            )));
        }
        Some(Content::Objects(all.into_values().collect()))
    }
}

/// The documents of one answer, sorted out.
#[derive(Debug, Default)]
struct Documents {
    id: Option<WorkspaceId>,
    /// The inventory of Secrets is there: nothing was left out.
    is_whole: bool,
    /// Nothing was sent: what is there stays.
    is_empty: bool,
    objects: Vec<Value>,
}

impl Documents {
    /// As GitLab's agent reads them: an inventory is a ConfigMap with a label, everything else names its own.
    fn read(documents: Vec<Value>) -> Result<Self, String> {
        let mut read = Self {
            is_empty: documents.is_empty(),
            ..Self::default()
        };
        let mut inventories = BTreeSet::new();
        for document in documents {
            let metadata = &document["metadata"];
            if let Some(id) = metadata["annotations"][WORKSPACE_ID_ANNOTATION].as_str() {
                if id.is_empty() || id.len() > MAX_ID_BYTES {
                    return Err(format!("{WORKSPACE_ID_ANNOTATION} is empty or too long"));
                }
                let known = read.id.get_or_insert_with(|| id.into());
                if **known != *id {
                    return Err(format!("two different values of {WORKSPACE_ID_ANNOTATION}"));
                }
            }
            match metadata["labels"][INVENTORY_ID_LABEL].as_str() {
                Some(id) if document["kind"] == "ConfigMap" => {
                    read.is_whole |= id.ends_with("-secrets-inventory");
                    inventories.insert(id.to_owned());
                }
                Some(_) | None => read.objects.push(document),
            }
        }
        if inventories.is_empty() && !read.is_empty {
            return Err("no inventory found".to_owned());
        }
        for object in &read.objects {
            let owner = object["metadata"]["annotations"][OWNING_INVENTORY_ANNOTATION].as_str();
            if owner.is_none_or(|owner| !inventories.contains(owner)) {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                return Err(format!(
                    "no owning inventory found of the {} {:?}",
                    text(&object["kind"]),
                    text(&object["metadata"]["name"])
                ));
            }
        }
        Ok(read)
    }
}

/// What makes an object a workspace's here: this agent keeps one inventory for each workspace.
pub(crate) struct Marks<'a> {
    pub(crate) place: &'a Place,
    pub(crate) agent_id: i64,
    pub(crate) id: &'a str,
}

impl Marks<'_> {
    /// The object with its marks: key, hash, text. What it says otherwise is judged with the rest of the workspace.
    pub(crate) fn put_on(&self, mut object: Value) -> ((String, String), (String, Arc<str>)) {
        let mut set = |part: &str, mark: &str, value: String, replaces: bool| {
            let metadata = &mut object["metadata"];
            if !metadata.is_object() || !(metadata[part].is_null() || metadata[part].is_object()) {
                return;
            }
            if replaces || metadata[part][mark].is_null() {
                metadata[part][mark] = value.into();
            }
        };
        let inventory = Inventory::name_of(&self.place.name);
        set("annotations", OWNING_INVENTORY_ANNOTATION, inventory, true);
        set(
            "annotations",
            WORKSPACE_ID_ANNOTATION,
            self.id.to_owned(),
            false,
        );
        set("labels", AGENT_ID_LABEL, self.agent_id.to_string(), false);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = (text(&object["kind"]), text(&object["metadata"]["name"]));
        // Keys of a JSON object are sorted in memory, so that equal objects have equal bytes.
        let text: Arc<str> = object.to_string().into();
        let hash = Sha256::digest(text.as_bytes());
        let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        (key, (hash, text))
    }
}

#[cfg(test)]
mod tests;
