//! The library's rules for projects and starter projects.

use super::Check;
use crate::code::Code;
use crate::model::{Git, Project, ProjectSource};
use crate::node::Trail;
use crate::schema::nearest;

pub(super) fn validate(check: &mut Check<'_, '_, '_>) {
    let devfile = check.devfile;
    let at = Trail::ROOT.key("projects");
    validate_list(check, &at, &devfile.projects, Code::ProjectRemotes);
    let at = Trail::ROOT.key("starterProjects");
    for (index, project) in devfile.starter_projects.iter().enumerate() {
        if let ProjectSource::Git(git) = &project.source {
            let item = at.index(index);
            single_remote(
                check,
                &item.key("git"),
                git,
                Code::ProjectRemotes,
                &format!("starter project {}", project.name),
            );
        }
    }
}

/// Projects may have several remotes if they say which one is checked out.
pub(super) fn validate_list(
    check: &mut Check<'_, '_, '_>,
    at: &Trail<'_>,
    projects: &[Project],
    code: Code,
) {
    for (index, project) in projects.iter().enumerate() {
        let ProjectSource::Git(git) = &project.source else {
            continue;
        };
        let item = at.index(index);
        let git_at = item.key("git");
        let what = format!("project {}", project.name);
        if git.remotes.is_empty() {
            no_remote(check, &git_at, code, &what);
        } else if git.remotes.len() > 1 && checkout_remote(git).is_none() {
            let names: Vec<&str> = git.remotes.keys().map(String::as_str).collect();
            check.tell(
                code,
                &git_at.key("remotes"),
                format!("{what} has several remotes and does not say which one is checked out"),
                Some(format!(
                    "write checkoutFrom: {{remote: {}}}",
                    names.first().copied().unwrap_or("origin")
                )),
            );
        } else {
            known_remote(check, &git_at, git, &what);
        }
    }
}

/// Starter projects and images come from one remote.
pub(super) fn single_remote(
    check: &mut Check<'_, '_, '_>,
    at: &Trail<'_>,
    git: &Git,
    code: Code,
    what: &str,
) {
    match git.remotes.len() {
        0 => no_remote(check, at, code, what),
        1 => known_remote(check, at, git, what),
        _ => check.tell(
            code,
            &at.key("remotes"),
            format!("{what} has several remotes, but only one is allowed"),
            None,
        ),
    }
}

fn no_remote(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, code: Code, what: &str) {
    check.tell(
        code,
        &at.key("remotes"),
        format!("{what} has no remote"),
        Some("write remotes: {origin: https://…}".into()),
    );
}

fn checkout_remote(git: &Git) -> Option<&str> {
    git.checkout_from
        .as_ref()?
        .remote
        .as_deref()
        .filter(|remote| !remote.is_empty())
}

fn known_remote(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, git: &Git, what: &str) {
    if let Some(remote) = checkout_remote(git)
        && !git.remotes.contains_key(remote)
    {
        let checkout = at.key("checkoutFrom");
        check.tell(
            Code::ProjectRemoteUnknown,
            &checkout.key("remote"),
            format!("{what} has no remote {remote:?}"),
            nearest(remote, git.remotes.keys().map(String::as_str))
                .map(|near| format!("did you mean {near}?")),
        );
    }
}
