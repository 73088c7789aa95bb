//! The repository a workspace is made from, as one of its projects.

use std::collections::BTreeMap;

use ::devfile::model::{CheckoutFrom, Devfile, Git, Project, ProjectSource};

use crate::workspaces::workspace::Source;

/// Longest name of a project that is made of a repository's.
const MAX_NAME: usize = 40;

/// Puts the repository among the projects, behind the devfile's own: commands of a devfile with projects of its own run
/// in the first of them. One that the devfile names itself is cloned once, at the ref that was asked for.
pub(crate) fn with_repository(mut devfile: Devfile, source: &Source) -> Devfile {
    let is_same = |git: &Git| {
        git.remotes
            .values()
            .any(|url| normal(url) == normal(&source.repository))
    };
    for project in &mut devfile.projects {
        let (ProjectSource::Git(git) | ProjectSource::Github(git)) = &mut project.source else {
            continue;
        };
        if !is_same(git) {
            continue;
        }
        if let Some(reference) = &source.reference {
            let checkout = git.checkout_from.get_or_insert_default();
            checkout.revision = Some(reference.clone());
        }
        return devfile;
    }
    let mut name = repository_name(&source.repository);
    let taken = |name: &str| {
        let all = devfile.projects.iter().chain(&devfile.dependent_projects);
        all.clone().any(|it| it.name == name || it.folder() == name)
    };
    while taken(&name) {
        name.push_str("-repository");
    }
    let git = Git {
        remotes: BTreeMap::from([("origin".into(), source.repository.clone())]),
        checkout_from: source.reference.clone().map(|reference| CheckoutFrom {
            revision: Some(reference),
            ..CheckoutFrom::default()
        }),
        file_location: None,
    };
    devfile.projects.push(Project {
        name,
        attributes: Default::default(),
        clone_path: None,
        sparse_checkout_dirs: Vec::new(),
        source: ProjectSource::Git(git),
    });
    devfile
}

fn normal(url: &str) -> &str {
    let url = url.trim_end_matches('/');
    url.strip_suffix(".git").unwrap_or(url)
}

/// What `git clone` would call the folder, as a name that the devfile standard allows.
pub(crate) fn repository_name(url: &str) -> String {
    let last = normal(url)
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let letters = last
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    let name: String = letters.take(MAX_NAME).collect();
    match name.trim_matches('-') {
        "" => "project".into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(repository: &str, reference: Option<&str>) -> Source {
        Source {
            repository: repository.into(),
            reference: reference.map(str::to_owned),
            commit: String::new(),
            devfile_path: String::new(),
        }
    }

    fn devfile(projects: &[(&str, &str)]) -> Devfile {
        let projects = projects.iter().map(|(name, url)| Project {
            name: (*name).into(),
            attributes: Default::default(),
            clone_path: None,
            sparse_checkout_dirs: Vec::new(),
            source: ProjectSource::Git(Git {
                remotes: BTreeMap::from([("origin".into(), (*url).into())]),
                checkout_from: None,
                file_location: None,
            }),
        });
        Devfile {
            projects: projects.collect(),
            ..Devfile::default()
        }
    }

    fn readable(devfile: &Devfile) -> Vec<String> {
        let line = |project: &Project| {
            let ProjectSource::Git(git) = &project.source else {
                return project.name.clone();
            };
            let revision = git
                .checkout_from
                .as_ref()
                .and_then(|it| it.revision.as_deref());
            format!(
                "{} {:?} {revision:?}",
                project.name,
                git.remotes.values().collect::<Vec<_>>()
            )
        };
        devfile.projects.iter().map(line).collect()
    }

    #[test]
    fn the_repository_is_a_project_and_never_twice() {
        let made = with_repository(devfile(&[]), &source("https://h/g/My_App.git", Some("v1")));
        assert_eq!(
            readable(&made),
            [r#"my-app ["https://h/g/My_App.git"] Some("v1")"#]
        );
        let listed = devfile(&[("app", "https://h/app"), ("other", "https://h/other")]);
        let made = with_repository(listed.clone(), &source("https://h/app.git/", Some("dev")));
        assert_eq!(
            readable(&made),
            [
                r#"app ["https://h/app"] Some("dev")"#,
                r#"other ["https://h/other"] None"#
            ]
        );
        let made = with_repository(listed, &source("https://elsewhere/app.git", None));
        assert_eq!(
            readable(&made)[2],
            r#"app-repository ["https://elsewhere/app.git"] None"#
        );
    }
}
