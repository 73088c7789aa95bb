//! How a person is related to an agent: by its project, or by what its configuration file lets in.

use model::configuration::UserAccess;

use crate::{
    authorization::{Principal, Relation, Resource},
    configuration::Configurations,
    directory::{Agent, Directory, Project},
};

/// The agent as the principal asks for it.
pub(crate) fn on_agent(
    directory: &Directory,
    configurations: &Configurations,
    principal: &Principal,
    agent: &Agent,
) -> Resource {
    let relation = principal.user_id().map_or(Relation::None, |user_id| {
        let state = configurations.state(agent);
        let good = state.good.as_ref();
        let access = good.and_then(|good| good.configuration.user_access.as_ref());
        relation(directory, user_id, agent, access)
    });
    Resource::Agent {
        id: agent.id,
        relation,
    }
}

/// The project as the principal asks for it.
pub(crate) fn on_project(principal: &Principal, project: &Project) -> Resource {
    let role = principal
        .user_id()
        .and_then(|user_id| project.members.get(&user_id));
    Resource::Project {
        relation: role.map_or(Relation::None, |role| Relation::Member(*role)),
    }
}

fn relation(
    directory: &Directory,
    user_id: u64,
    agent: &Agent,
    access: Option<&UserAccess>,
) -> Relation {
    let own = agent.project.and_then(|id| directory.project_by_id(id));
    if let Some(role) = own.as_ref().and_then(|it| it.members.get(&user_id)) {
        return Relation::Member(*role);
    }
    let invited = access.is_some_and(|it| directory.is_member(user_id, &it.projects, &it.groups));
    if invited {
        Relation::Invited
    } else {
        Relation::None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        authorization::{MemberRole, Role},
        directory::NewUser,
        store::SqliteStore,
    };

    #[tokio::test]
    async fn members_of_the_agents_project_and_of_those_that_its_file_names_are_related() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("db")).await.unwrap();
        let (directory, _) = Directory::open(Arc::new(store)).await.unwrap();
        let ada = NewUser {
            name: "ada".parse().unwrap(),
            role: Role::User,
            password: None,
            identity: None,
        };
        let ada = directory.create_user(ada).await.unwrap().id;
        let path = |path: &str| path.parse().unwrap();
        for project in ["own", "team/tools", "team/deep/er", "teams/x"] {
            directory.create_project(path(project)).await.unwrap();
        }
        let own = directory.project(&path("own")).unwrap();
        let agent = directory
            .create_agent("a".parse().unwrap(), None, Some(own.id))
            .await
            .unwrap()
            .agent;
        let access = |projects: &[&str], groups: &[&str]| UserAccess {
            projects: projects.iter().map(|it| (*it).to_owned()).collect(),
            groups: groups.iter().map(|it| (*it).to_owned()).collect(),
            ..UserAccess::default()
        };
        let to = |access: Option<&UserAccess>| relation(&directory, ada, &agent, access);
        let lets_in = [
            access(&["Team/Tools"], &[]),
            access(&["no/such", "team/tools"], &[]),
            access(&[], &["team"]),
        ];
        for access in &lets_in {
            assert_eq!(to(Some(access)), Relation::None, "{access:?}");
        }
        let member = MemberRole::Developer;
        directory
            .set_member(&path("team/tools"), "ada", member)
            .await
            .unwrap();
        for access in &lets_in {
            assert_eq!(to(Some(access)), Relation::Invited, "{access:?}");
        }
        for other in [
            access(&[], &[]),
            access(
                &["team"],
                &["tools", "team/tools", "team/deep", "teams", "", "/"],
            ),
        ] {
            assert_eq!(to(Some(&other)), Relation::None, "{other:?}");
        }
        assert_eq!(to(None), Relation::None);
        let member = MemberRole::Maintainer;
        directory
            .set_member(&path("own"), "ada", member)
            .await
            .unwrap();
        assert_eq!(to(Some(&lets_in[0])), Relation::Member(member));
    }
}
