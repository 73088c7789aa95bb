//! Projects: whose members may use which agents.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Directory, Error, Result,
    records::{self, ProjectRecord},
};
use crate::{
    authorization::MemberRole,
    secret::random_id,
    store::{Kind, Write},
};

pub(super) const MAX_PROJECTS: usize = 10_000;
pub(super) const MAX_MEMBERS: usize = 10_000;
/// Longest path, and the most names in it.
const MAX_PATH: usize = 255;
const MAX_DEPTH: usize = 20;

/// `group/subgroup/project`, as GitLab writes it; one name at least.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ProjectPath(String);

/// The text is no path of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a project's path has 1 to {MAX_PATH} characters: names of a-z, 0-9 and . _ - that begin with a letter or digit, \
     with / between them"
)]
pub(crate) struct ProjectPathError;

impl ProjectPath {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is in a group, at any depth.
    pub(crate) fn is_in(&self, group: &str) -> bool {
        let rest = self.0.strip_prefix(group);
        !group.is_empty() && rest.is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for ProjectPath {
    type Err = ProjectPathError;

    fn from_str(text: &str) -> Result<Self, ProjectPathError> {
        let is_plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
        let is_name = |name: &str| {
            name.bytes().next().is_some_and(is_plain)
                && name.bytes().all(|it| is_plain(it) || b"._-".contains(&it))
        };
        let fits = text.len() <= MAX_PATH
            && text.split('/').count() <= MAX_DEPTH
            && text.split('/').all(is_name);
        match fits {
            true => Ok(Self(text.to_owned())),
            false => Err(ProjectPathError),
        }
    }
}

impl TryFrom<String> for ProjectPath {
    type Error = ProjectPathError;

    fn try_from(text: String) -> Result<Self, ProjectPathError> {
        text.parse()
    }
}

impl From<ProjectPath> for String {
    fn from(path: ProjectPath) -> Self {
        path.0
    }
}

impl fmt::Display for ProjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A project with its members.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) id: u64,
    pub(crate) path: ProjectPath,
    pub(crate) members: BTreeMap<u64, MemberRole>,
    pub(crate) created_at: Timestamp,
    /// In the store.
    pub(super) version: u64,
}

impl Directory {
    /// All, by path.
    pub(crate) fn projects(&self) -> Vec<Arc<Project>> {
        let index = self.read();
        let ids = index.projects_by_path.values();
        ids.filter_map(|id| index.projects.get(id))
            .cloned()
            .collect()
    }

    pub(crate) fn project(&self, path: &ProjectPath) -> Result<Arc<Project>> {
        let index = self.read();
        let id = index.projects_by_path.get(path);
        let project = id.and_then(|id| index.projects.get(id)).cloned();
        project.ok_or_else(|| Error::NoSuchProject(path.to_string()))
    }

    pub(crate) fn project_by_id(&self, id: u64) -> Option<Arc<Project>> {
        self.read().projects.get(&id).cloned()
    }

    /// Whether a user is a member of one of these projects, or of any below one of these groups.
    pub(crate) fn is_member(&self, user_id: u64, projects: &[String], groups: &[String]) -> bool {
        let index = self.read();
        let is_member = |id: &u64| {
            let project = index.projects.get(id);
            project.is_some_and(|it| it.members.contains_key(&user_id))
        };
        // GitLab's paths are the same in whatever case they are written.
        let path = |text: &String| text.to_lowercase().parse::<ProjectPath>().ok();
        let mut listed = projects.iter().filter_map(path);
        let by_path = &index.projects_by_path;
        let is_in = |group: ProjectPath| {
            let from = by_path.range(group.clone()..);
            let mut below = from
                .take_while(|(path, _)| path.as_str().starts_with(group.as_str()))
                .filter(|(path, _)| path.is_in(group.as_str()));
            below.any(|(_, id)| is_member(id))
        };
        listed.any(|path| by_path.get(&path).is_some_and(is_member))
            || groups.iter().filter_map(path).any(is_in)
    }

    pub(crate) async fn create_project(&self, path: ProjectPath) -> Result<Arc<Project>> {
        let _writing = self.writing.lock().await;
        {
            let index = self.read();
            if index.projects_by_path.contains_key(&path) {
                return Err(Error::ProjectExists(path.to_string()));
            }
            if index.projects.len() >= MAX_PROJECTS {
                return Err(Error::TooManyProjects);
            }
        }
        let project = Arc::new(Project {
            id: random_id(),
            path,
            members: BTreeMap::new(),
            created_at: Timestamp::now(),
            version: 1,
        });
        let record = ProjectRecord::from(&*project);
        let write = records::write(Kind::Project, project.id.to_string(), 0, &record);
        self.append(vec![write]).await?;
        self.write().set_project(Arc::clone(&project));
        Ok(project)
    }

    /// Deletes a project without agents. What its members have open ends: another agent's file may have let them in.
    pub(crate) async fn delete_project(&self, path: &ProjectPath) -> Result<()> {
        let _writing = self.writing.lock().await;
        let project = self.project(path)?;
        let mut agents = self.agents().into_iter();
        if agents.any(|it| it.project == Some(project.id)) {
            return Err(Error::ProjectHasAgents(path.to_string()));
        }
        let end = Write {
            kind: Kind::Project,
            id: project.id.to_string(),
            expected_version: project.version,
            body: None,
        };
        self.append(vec![end]).await?;
        let mut index = self.write();
        index.projects_by_path.remove(path);
        index.projects.remove(&project.id);
        for user in project.members.keys() {
            self.cut_user(&mut index, *user);
        }
        Ok(())
    }

    /// Makes a user a member, or changes what they are. Less than before ends what they have open.
    pub(crate) async fn set_member(
        &self,
        path: &ProjectPath,
        user: &str,
        role: MemberRole,
    ) -> Result<Arc<Project>> {
        self.change_member(path, user, |members, id| {
            if members.len() >= MAX_MEMBERS && !members.contains_key(&id) {
                return Err(Error::TooManyMembers);
            }
            members.insert(id, role);
            Ok(())
        })
        .await
    }

    pub(crate) async fn remove_member(
        &self,
        path: &ProjectPath,
        user: &str,
    ) -> Result<Arc<Project>> {
        self.change_member(path, user, |members, id| {
            let removed = members.remove(&id);
            removed
                .map(drop)
                .ok_or_else(|| Error::NoSuchMember(user.to_owned()))
        })
        .await
    }

    async fn change_member(
        &self,
        path: &ProjectPath,
        user: &str,
        change: impl FnOnce(&mut BTreeMap<u64, MemberRole>, u64) -> Result<()> + Send,
    ) -> Result<Arc<Project>> {
        let _writing = self.writing.lock().await;
        let user = self.user_by_name(user)?;
        let project = self.project(path)?;
        let mut changed = Project::clone(&project);
        change(&mut changed.members, user.id)?;
        changed.version += 1;
        let record = ProjectRecord::from(&changed);
        let id = project.id.to_string();
        let write = records::write(Kind::Project, id, project.version, &record);
        self.append(vec![write]).await?;
        let changed = Arc::new(changed);
        let mut index = self.write();
        let less = changed.members.get(&user.id) < project.members.get(&user.id);
        index.set_project(Arc::clone(&changed));
        if less {
            self.cut_user(&mut index, user.id);
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_names_with_slashes() {
        for good in ["a", "group/project", "a/b/c.d_e-f", "0/1"] {
            assert_eq!(good.parse::<ProjectPath>().unwrap().as_str(), good);
        }
        let (long, deep) = ("a".repeat(MAX_PATH + 1), "a/".repeat(MAX_DEPTH) + "a");
        for bad in [
            "", "/a", "a/", "a//b", "A", "a b", "../a", "a/-", &long, &deep,
        ] {
            assert_eq!(bad.parse::<ProjectPath>(), Err(ProjectPathError), "{bad:?}");
        }
    }

    #[test]
    fn a_group_is_what_is_below_it() {
        let path: ProjectPath = "a/b/c".parse().unwrap();
        assert!(path.is_in("a") && path.is_in("a/b"));
        for other in ["", "b", "a/b/c", "a/", "a/b/c/d"] {
            assert!(!path.is_in(other), "{other}");
        }
        let near: ProjectPath = "ab/c".parse().unwrap();
        assert!(!near.is_in("a"));
    }
}
