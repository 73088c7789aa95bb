//! Reads a workspace's devfile from a repository.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use ::devfile::text::decode;

use crate::{
    configuration::chain,
    git::{
        self, File, Git, ProjectUrl,
        at_ref::{AtRef, Reference, wants_credentials},
    },
};

/// Where a devfile is looked for, in this order (devfile 2.2's names).
pub(crate) const DEFAULT_PATHS: [&str; 4] = [
    ".devfile.yaml",
    "devfile.yaml",
    ".devfile.yml",
    "devfile.yml",
];
/// The largest devfile (GitLab's limit).
pub(crate) const MAX_DEVFILE_BYTES: usize = 3 * 1024 * 1024;
/// Longest path of a devfile.
const MAX_PATH: usize = 1024;
/// Devfiles kept, so that many workspaces of one commit cost one fetch.
const MAX_KEPT: usize = 64;
/// Larger devfiles are fetched each time.
const MAX_KEPT_BYTES: usize = 256 * 1024;

/// Code of an error.
const NO_SUCH_REF: &str = "no_such_ref";

/// Looks kept at most when nobody waits for them.
const MAX_LOOKS: usize = 64;

/// Reads devfiles.
#[derive(Debug)]
pub(crate) struct Devfiles {
    git: Arc<Git>,
    kept: Mutex<HashMap<Key, Devfile>>,
    looks: Mutex<HashMap<LookKey, Arc<Look>>>,
}

/// Repository and reference.
type LookKey = (String, Option<String>);

/// The newest look at a reference: when it began, and the commit it found.
#[derive(Debug, Default)]
struct Look(tokio::sync::Mutex<Option<(Instant, String)>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    repository: String,
    commit: String,
    path: Option<String>,
}

/// A devfile as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Devfile {
    pub(crate) commit: String,
    pub(crate) path: String,
    pub(crate) text: Arc<str>,
}

/// Why there is none; the field of the request that is to be mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceError {
    pub(crate) field: &'static str,
    pub(crate) code: &'static str,
    pub(crate) reason: String,
    pub(crate) hint: Option<String>,
}

impl Devfiles {
    pub(crate) fn new(git: Arc<Git>) -> Self {
        git.clear_scratch();
        Self {
            git,
            kept: Mutex::default(),
            looks: Mutex::default(),
        }
    }

    /// The devfile of a repository at a reference, or at its default branch.
    pub(crate) async fn read(
        &self,
        repository: &str,
        reference: Option<&str>,
        path: Option<&str>,
    ) -> Result<Devfile, SourceError> {
        let project = ProjectUrl::parse(repository, self.git.policy()).map_err(|error| {
            wrong("repository", "invalid_field", error.to_string())
                .hint("for example https://git.example.com/group/project.git")
        })?;
        let reference = reference.map(Reference::parse).transpose();
        let reference =
            reference.map_err(|error| wrong("ref", "invalid_field", error.to_string()))?;
        if let Some(path) = path {
            check_path(path)?;
        }
        let commit = self.look(&project, reference.as_ref()).await?;
        let mut key = Key {
            repository: repository.to_owned(),
            commit,
            path: path.map(str::to_owned),
        };
        if let Some(devfile) = self.kept().get(&key) {
            return Ok(devfile.clone());
        }
        let devfile = self.fetch(&project, reference.as_ref(), path).await?;
        if devfile.text.len() <= MAX_KEPT_BYTES {
            // Between the two looks it may have moved on.
            key.commit.clone_from(&devfile.commit);
            let mut kept = self.kept();
            if kept.len() >= MAX_KEPT {
                kept.clear();
            }
            kept.insert(key, devfile.clone());
        }
        Ok(devfile)
    }

    /// Another file of the commit that a devfile was read from.
    pub(crate) async fn read_beside(
        &self,
        devfile: &Devfile,
        repository: &str,
        reference: Option<&str>,
        path: &str,
    ) -> Result<Arc<str>, SourceError> {
        let by_commit = self
            .read(repository, Some(&devfile.commit), Some(path))
            .await;
        match by_commit {
            // Old Git servers give out what a name stands at, but no commit by its id.
            Err(error) if error.code == NO_SUCH_REF => {}
            read => return read.map(|it| it.text),
        }
        let read = self.read(repository, reference, Some(path)).await?;
        if read.commit != devfile.commit {
            let reason = "the repository changed in between";
            return Err(wrong("ref", "changed", reason).hint("try again"));
        }
        Ok(read.text)
    }

    /// Where a reference stands. Many who ask at the same time share a look that began after they asked, so that each
    /// sees what was pushed before.
    async fn look(
        &self,
        project: &ProjectUrl,
        reference: Option<&Reference>,
    ) -> Result<String, SourceError> {
        let asked = Instant::now();
        let name = reference.map(|it| it.as_str().to_owned());
        let key = (project.as_str().to_owned(), name);
        let look = {
            let mut looks = self.looks();
            if looks.len() >= MAX_LOOKS {
                looks.retain(|_, look| Arc::strong_count(look) > 1);
            }
            Arc::clone(looks.entry(key).or_default())
        };
        let mut newest = look.0.lock().await;
        let known = newest.as_ref().filter(|(began, _)| *began >= asked);
        match known {
            Some((_, commit)) => Ok(commit.clone()),
            None => {
                let began = Instant::now();
                let commit = self.git.commit_at(project, reference).await;
                let commit = commit
                    .map_err(|error| unreadable(&error))
                    .and_then(|it| it.ok_or_else(|| no_reference(reference.is_some())));
                *newest = commit.clone().ok().map(|commit| (began, commit));
                commit
            }
        }
    }

    async fn fetch(
        &self,
        project: &ProjectUrl,
        reference: Option<&Reference>,
        path: Option<&str>,
    ) -> Result<Devfile, SourceError> {
        let given = path.map(|path| [path]);
        let paths: &[&str] = given.as_ref().map_or(&DEFAULT_PATHS, |path| path);
        let found = self
            .git
            .read_at(project, reference, paths, MAX_DEVFILE_BYTES)
            .await;
        let (commit, file) = match found.map_err(|error| unreadable(&error))? {
            AtRef::NoReference => return Err(no_reference(reference.is_some())),
            AtRef::Commit { commit, file } => (commit, file),
        };
        let none = || {
            wrong(
                "devfile_path",
                "no_devfile",
                format!("there is no file {} at commit {commit}", paths.join(", ")),
            )
        };
        let (path, content) = match file {
            None | Some((_, File::Missing)) => return Err(none()),
            Some((path, File::TooLarge)) => {
                let limit = MAX_DEVFILE_BYTES / 1024 / 1024;
                let reason = format!("{path} is larger than {limit} MiB");
                return Err(wrong("devfile_path", "too_large", reason));
            }
            Some((path, File::Content(content))) => (path, content),
        };
        let text = decode(content).map_err(|error| {
            let reason = format!("{path}, {error}");
            wrong("devfile_path", "not_utf8", reason).hint(error.hint())
        })?;
        Ok(Devfile {
            commit,
            path,
            text: text.into(),
        })
    }

    fn looks(&self) -> MutexGuard<'_, HashMap<LookKey, Arc<Look>>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Key, Devfile>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SourceError {
    fn hint(self, hint: &str) -> Self {
        Self {
            hint: Some(hint.to_owned()),
            ..self
        }
    }
}

fn wrong(field: &'static str, code: &'static str, reason: impl Into<String>) -> SourceError {
    SourceError {
        field,
        code,
        reason: reason.into(),
        hint: None,
    }
}

fn check_path(path: &str) -> Result<(), SourceError> {
    let is_inside = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let is_plain = path.len() <= MAX_PATH && !path.chars().any(char::is_control);
    // Git takes a colon in front for more than a name.
    if is_inside && is_plain && !path.starts_with([':', '-']) {
        return Ok(());
    }
    Err(wrong(
        "devfile_path",
        "invalid_field",
        "it is no path of a file in the repository",
    )
    .hint("for example .devfile.yaml or tools/devfile.yaml"))
}

fn no_reference(was_given: bool) -> SourceError {
    if was_given {
        wrong(
            "ref",
            NO_SUCH_REF,
            "the repository has no such branch, tag or commit",
        )
        .hint("a commit is given by its whole id")
    } else {
        wrong("repository", "empty_repository", "the repository is empty")
    }
}

fn unreadable(error: &git::Error) -> SourceError {
    if wants_credentials(error) {
        return wrong(
            "repository",
            "repository_private",
            "the repository is private or does not exist: its server asks who we are, and this server has no credentials for it",
        )
        .hint("make the repository readable without signing in, or check its address");
    }
    wrong(
        "repository",
        "repository_unreadable",
        format!("the repository cannot be read: {}", chain(error)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_in_the_repository() {
        for good in [".devfile.yaml", "a/b/devfile.yml"] {
            assert_eq!(check_path(good), Ok(()));
        }
        for bad in [
            "", "/a", "a/../b", "../a", "a//b", "./a", ":(glob)*", "-a", "a\nb",
        ] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_private_repository_is_told_apart() {
        let failed = |message: &str| git::Error::Failed {
            command: "ls-remote",
            message: message.into(),
        };
        let private = failed(
            "could not read Username for 'https://git.example.com': terminal prompts disabled",
        );
        assert_eq!(unreadable(&private).code, "repository_private");
        let gone = failed("unable to access 'https://git.example.com/a/': Could not resolve host");
        assert_eq!(unreadable(&gone).code, "repository_unreadable");
    }
}
