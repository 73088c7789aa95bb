//! Reads one file of a repository at a branch, tag or commit.
//!
//! A folder of its own for each read, gone afterwards: people may name any number of repositories. Where the Git server
//! can, only the wanted file is fetched, not the others of the commit.

use std::path::{Path, PathBuf};

use super::{Error, File, Git, MAX_LINE, ProjectUrl, guard, is_object_id};

/// What is read of the list of references that match a name.
const MAX_REFERENCES: u64 = 64 * 1024;
/// Longest name of a branch or tag.
const MAX_REFERENCE: usize = 255;
/// Where the fetched commit is kept; not below `refs/heads`, since a tag may be what was asked for.
const FETCHED: &str = "refs/fetched/it";

/// A branch, a tag, or a whole commit id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference(String);

/// Why a text is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no name of a branch or tag, and no whole commit id")]
pub(crate) struct ReferenceError;

impl Reference {
    /// Git's own rules (git-check-ref-format), so that nothing in it means more than a name.
    pub(crate) fn parse(text: &str) -> Result<Self, ReferenceError> {
        let forbidden = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
        let is_name = !text.is_empty()
            && text.len() <= MAX_REFERENCE
            && !text.contains(forbidden)
            && !text.contains("..")
            && !text.contains("@{")
            && !text.contains("//")
            && text != "@"
            && !text.starts_with(['-', '/', '.'])
            && !text.ends_with(['/', '.'])
            && !text.ends_with(".lock");
        is_name.then(|| Self(text.to_owned())).ok_or(ReferenceError)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AtRef {
    /// No such branch, tag or commit.
    NoReference,
    Commit {
        commit: String,
        /// The first of the paths that is a file there, and what it is.
        file: Option<(String, File)>,
    },
}

/// A folder that goes when it is dropped, also when the read is given up in the middle.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now goes when the server starts the next time.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Git {
    /// Where reads have their folders.
    fn scratch(&self) -> PathBuf {
        self.cache.join("reads")
    }

    /// Removes what a server that was killed left behind.
    pub(crate) fn clear_scratch(&self) {
        let _ = std::fs::remove_dir_all(self.scratch());
    }

    /// The commit that a reference, or without one the default branch, stands at; `None`: there is no such.
    pub(crate) async fn commit_at(
        &self,
        project: &ProjectUrl,
        reference: Option<&Reference>,
    ) -> Result<Option<String>, Error> {
        let name = reference.map_or("HEAD", Reference::as_str);
        if is_object_id(name) {
            return Ok(Some(name.to_owned()));
        }
        let pinned = guard::resolve(project, self.policy).await?;
        let mut command = self.command(&self.cache, Some(&pinned));
        command
            .args(["ls-remote", "--quiet", "--"])
            .arg(project.as_str());
        // The second pattern is what an annotated tag points to.
        command.arg(name).arg(format!("{name}^{{}}"));
        let answer = self.run("ls-remote", command, MAX_REFERENCES).await?;
        let answer = String::from_utf8(answer).map_err(|_| Error::Answer)?;
        let find = |wanted: &str| {
            let mut lines = answer.lines().filter_map(|line| line.split_once('\t'));
            lines
                .find(|(_, found)| *found == wanted)
                .map(|(id, _)| id.to_owned())
        };
        // In the order in which a fetch looks.
        let candidates = [
            name.to_owned(),
            format!("refs/tags/{name}^{{}}"),
            format!("refs/tags/{name}"),
            format!("refs/heads/{name}"),
        ];
        let commit = candidates.iter().find_map(|wanted| find(wanted));
        match commit {
            Some(commit) if !is_object_id(&commit) => Err(Error::Answer),
            commit => Ok(commit),
        }
    }

    /// Fetches a reference and reads the first of `paths` that is there.
    pub(crate) async fn read_at(
        &self,
        project: &ProjectUrl,
        reference: Option<&Reference>,
        paths: &[&str],
        max_bytes: usize,
    ) -> Result<AtRef, Error> {
        let folder = Scratch(self.scratch().join(crate::secret::random_id().to_string()));
        let folder = &folder.0;
        tokio::fs::create_dir_all(folder)
            .await
            .map_err(Error::Folder)?;
        let mut init = self.command(folder, None);
        init.args(["init", "--quiet", "--bare", "."]);
        self.run("init", init, MAX_LINE).await?;
        // A remote with a name: files that the fetch leaves out are fetched from it when they are read.
        let mut remote = self.command(folder, None);
        remote
            .args(["config", "remote.origin.url"])
            .arg(project.as_str());
        self.run("config", remote, MAX_LINE).await?;

        let pinned = guard::resolve(project, self.policy).await?;
        let name = reference.map_or("HEAD", Reference::as_str);
        let mut fetch = self.command(folder, Some(&pinned));
        fetch
            .args([
                "fetch",
                "--quiet",
                "--depth=1",
                "--filter=blob:none",
                "--no-tags",
            ])
            .args([
                "--no-write-fetch-head",
                "--no-recurse-submodules",
                "--",
                "origin",
            ])
            .arg(format!("+{name}:{FETCHED}"));
        match self.run("fetch", fetch, MAX_LINE).await {
            Ok(_) => {}
            Err(Error::Failed { message, .. }) if is_missing_reference(&message) => {
                return Ok(AtRef::NoReference);
            }
            Err(error) => return Err(error),
        }

        let commit = self
            .line(folder, &["rev-parse", &format!("{FETCHED}^{{commit}}")])
            .await?;
        if !is_object_id(&commit) {
            return Err(Error::Answer);
        }
        for path in paths {
            if let Some(id) = self.file_id(folder, &commit, path).await? {
                let file = self.read_blob(folder, &pinned, &id, max_bytes).await?;
                let file = Some(((*path).to_owned(), file));
                return Ok(AtRef::Commit { commit, file });
            }
        }
        Ok(AtRef::Commit { commit, file: None })
    }

    /// The file's id; nothing for a folder or a symbolic link, whose content would be a path.
    async fn file_id(
        &self,
        folder: &Path,
        commit: &str,
        path: &str,
    ) -> Result<Option<String>, Error> {
        // One line "<mode> blob <id>\t<path>", or nothing.
        let entry = self.line(folder, &["ls-tree", commit, "--", path]).await?;
        let mut words = entry.split([' ', '\t']);
        let (Some(mode), Some("blob"), Some(id)) = (words.next(), words.next(), words.next())
        else {
            return Ok(None);
        };
        Ok((mode.starts_with("100") && is_object_id(id)).then(|| id.to_owned()))
    }

    async fn read_blob(
        &self,
        folder: &Path,
        pinned: &guard::Pinned,
        id: &str,
        max_bytes: usize,
    ) -> Result<File, Error> {
        // May fetch it, so the address is pinned here too.
        let mut size = self.command(folder, Some(pinned));
        size.args(["cat-file", "-s", id]);
        let size = self.run("cat-file", size, MAX_LINE).await?;
        let size = String::from_utf8(size).map_err(|_| Error::Answer)?;
        let size: u64 = size.trim_end().parse().map_err(|_| Error::Answer)?;
        if size > max_bytes as u64 {
            return Ok(File::TooLarge);
        }
        let mut read = self.command(folder, Some(pinned));
        read.args(["cat-file", "blob", id]);
        Ok(File::Content(self.run("cat-file", read, size).await?))
    }
}

fn is_missing_reference(message: &str) -> bool {
    [
        "couldn't find remote ref",
        "not our ref",
        "does not allow request for unadvertised object",
    ]
    .iter()
    .any(|text| message.contains(text))
}

/// Whether git complained that the server wants to know who asks. Servers of private repositories say so for those that
/// do not exist, too.
pub(crate) fn wants_credentials(error: &Error) -> bool {
    let Error::Failed { message, .. } = error else {
        return false;
    };
    [
        "could not read Username",
        "Authentication failed",
        "returned error: 401",
        "returned error: 403",
    ]
    .iter()
    .any(|text| message.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_names_and_nothing_more() {
        for good in ["main", "feature/x-1", "v1.0", &"a".repeat(40)] {
            assert!(Reference::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "", "-x", "a b", "a:b", "a..b", "+a^", "@", "a.lock", "/a", "a/", "a\nb", "x@{1}",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }
}
