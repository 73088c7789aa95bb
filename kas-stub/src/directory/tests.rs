use std::time::Duration;

use model::agent_name::AgentName;

use super::*;
use crate::{
    authorization::{MemberRole, Role, Scope, Scopes},
    secret::Secret,
    store::SqliteStore,
};

async fn directory(folder: &tempfile::TempDir) -> (Directory, bool) {
    let store = SqliteStore::open(&folder.path().join("db")).await.unwrap();
    Directory::open(Arc::new(store)).await.unwrap()
}

async fn session(directory: &Directory, user: u64) -> Secret {
    let session = directory.create_session(user, SignedInBy::Link, "a browser", None);
    session.await.unwrap()
}

fn somebody(name: &str) -> NewUser {
    NewUser {
        name: name.parse().unwrap(),
        role: Role::User,
        password: None,
        identity: None,
    }
}

/// A token of theirs for everything.
async fn token(directory: &Directory, user: u64) -> Secret {
    let made = directory.create_personal_token(user, "t".into(), None, Scopes::all());
    made.await.unwrap().1
}

fn name(name: &str) -> AgentName {
    name.parse().unwrap()
}

#[tokio::test]
async fn everything_is_there_after_a_restart_and_the_administrator_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let (first, made) = directory(&folder).await;
    assert!(made);
    let created = first.create_agent(name("a"), None, None).await.unwrap();
    let (_, token) = first
        .create_personal_token(first.administrator(), "laptop".into(), None, Scopes::all())
        .await
        .unwrap();
    let session = session(&first, first.administrator()).await;
    first.authenticate(token.expose()).unwrap();
    first.maintain(Timestamp::now(), true).await.unwrap();
    first.store.close().await;

    let (second, made) = directory(&folder).await;
    assert!(!made && second.administrator() == first.administrator());
    let agent = second.authenticate(created.token.expose()).unwrap();
    let agent_id = created.agent.id;
    assert_eq!(agent.principal, Principal::Agent { agent_id });
    let agent = second.agent_by_id(created.agent.id).unwrap();
    assert!(agent.webhook_matches(created.webhook_secret.expose()));
    assert!(!agent.webhook_matches(created.token.expose()));
    assert!(second.session(session.expose()).is_some());
    let owner = TokenOwner::User {
        id: second.administrator(),
    };
    assert!(second.tokens(owner)[0].last_used_at().is_some());
}

#[tokio::test]
async fn a_revoked_token_is_refused_cuts_what_runs_and_stays_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let (directory_before, _) = directory(&folder).await;
    let created = directory_before
        .create_agent(name("a"), None, None)
        .await
        .unwrap();
    let token = directory_before
        .authenticate(created.token.expose())
        .unwrap();
    let owner = TokenOwner::Agent {
        id: created.agent.id,
    };
    let id = directory_before.tokens(owner)[0].id;
    directory_before.revoke_token(owner, id).await.unwrap();
    directory_before.revoke_token(owner, id).await.unwrap();
    assert!(token.cut.is_cancelled());
    assert!(
        directory_before
            .authenticate(created.token.expose())
            .is_none()
    );
    let stranger = TokenOwner::Agent { id: 1 };
    let refused = directory_before.revoke_token(stranger, id).await;
    assert!(matches!(refused, Err(Error::NoSuchToken)));
    directory_before.store.close().await;
    let (after, _) = directory(&folder).await;
    assert!(after.authenticate(created.token.expose()).is_none());
}

#[tokio::test]
async fn an_agent_has_two_active_tokens_at_most_and_a_name_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = directory(&folder).await;
    let agent = directory
        .create_agent(name("a"), None, None)
        .await
        .unwrap()
        .agent;
    let (second, _) = directory.create_agent_token(&agent).await.unwrap();
    let third = directory.create_agent_token(&agent).await;
    assert!(matches!(third, Err(Error::TooManyAgentTokens(_))));
    directory
        .revoke_token(second.owner, second.id)
        .await
        .unwrap();
    directory.create_agent_token(&agent).await.unwrap();
    let again = directory.create_agent(name("a"), None, None).await;
    assert!(matches!(again, Err(Error::AgentExists(_))));
}

#[tokio::test]
async fn tokens_that_are_over_are_forgotten_when_there_are_many() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = directory(&folder).await;
    let user = directory.administrator();
    let owner = TokenOwner::User { id: user };
    let (first, kept) = (token(&directory, user).await, token(&directory, user).await);
    for _ in 0..103 {
        let newest = directory.tokens(owner).pop().unwrap();
        if !newest.digest.matches(&kept.digest()) {
            directory.revoke_token(owner, newest.id).await.unwrap();
        }
        token(&directory, user).await;
    }
    // One hundred that are over, the two that are not, and the newest.
    assert_eq!(directory.tokens(owner).len(), 103);
    assert!(directory.authenticate(first.expose()).is_some());
    let kept = directory.store.list(Kind::Token).await.unwrap();
    assert_eq!(kept.len(), 103);
}

#[tokio::test]
async fn expired_credentials_end_with_what_runs_by_them() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = directory(&folder).await;
    let soon = Timestamp::now() + Duration::from_secs(60);
    let user = directory.administrator();
    let (token, secret) = directory
        .create_personal_token(user, "t".into(), Some(soon), Scopes::all())
        .await
        .unwrap();
    let session = session(&directory, user).await;
    directory.maintain(Timestamp::now(), true).await.unwrap();
    assert!(!token.cancelled().is_cancelled() && directory.authenticate(secret.expose()).is_some());
    let later = Timestamp::now() + SESSION_LENGTH + Duration::from_secs(1);
    directory.maintain(later, true).await.unwrap();
    assert!(token.cancelled().is_cancelled());
    assert!(directory.session(session.expose()).is_none());
}

/// As they were written by a server that knew one administrator and no scopes.
#[tokio::test]
async fn what_an_earlier_server_kept_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("db")).await.unwrap();
    let (kept_token, kept_session) = (Secret::generate("rdpat-"), Secret::generate(""));
    let (token_hash, session_hash) = (
        kept_token.digest().to_text(),
        kept_session.digest().to_text(),
    );
    let now = Timestamp::now();
    let later = now + Duration::from_secs(600);
    let record = |kind, id: &str, body: String| Write {
        kind,
        id: id.to_owned(),
        expected_version: 0,
        body: Some(body),
    };
    let written = vec![
        record(
            Kind::User,
            "7",
            r#"{"name":"administrator","role":"administrator"}"#.into(),
        ),
        record(
            Kind::Agent,
            "8",
            format!(r#"{{"name":"a","project_url":null,"webhook_sha256":"{token_hash}"}}"#),
        ),
        record(
            Kind::Token,
            "9",
            format!(
                r#"{{"owner":{{"kind":"user","id":7}},"name":"t","sha256":"{token_hash}","created_at":"{now}",
                "expires_at":"{later}","last_used_at":null,"revoked_at":null}}"#
            ),
        ),
        record(
            Kind::Session,
            &session_hash,
            format!(r#"{{"sha256":"{session_hash}","user_id":7,"expires_at":"{later}"}}"#),
        ),
    ];
    store.append(written).await.unwrap();
    let (directory, made) = Directory::open(Arc::new(store)).await.unwrap();
    assert!(!made && directory.administrator() == 7);
    let administrator = directory.user(7).unwrap();
    assert!(administrator.local && administrator.role == Role::Administrator);
    let by = Proof::Token {
        token_id: 9,
        scopes: Scopes::all(),
    };
    let expected = Principal::Person {
        user_id: 7,
        role: Role::Administrator,
        by,
    };
    let found = directory.authenticate(kept_token.expose()).unwrap();
    assert_eq!(found.principal, expected);
    assert_eq!(directory.agent("a").unwrap().project, None);
    assert!(directory.session(kept_session.expose()).is_some());
    // And what is written of them then is read again.
    directory.maintain(Timestamp::now(), true).await.unwrap();
    directory.move_agent("a", None).await.unwrap();
    directory.store.close().await;
    let (again, _) = self::directory(&folder).await;
    assert!(again.session(kept_session.expose()).is_some());
    assert!(again.authenticate(kept_token.expose()).is_some());
}

#[tokio::test]
async fn a_suspended_user_may_nothing_and_nothing_of_theirs_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = directory(&folder).await;
    let ada = directory.create_user(somebody("ada")).await.unwrap().id;
    let bob = directory.create_user(somebody("bob")).await.unwrap().id;
    let (token, of_bob) = (token(&directory, ada).await, token(&directory, bob).await);
    let session = session(&directory, ada).await;
    let open = directory.authenticate(token.expose()).unwrap().cut;
    let open_of_bob = directory.authenticate(of_bob.expose()).unwrap().cut;
    let page = directory.session(session.expose()).unwrap().0.cut;

    directory.suspend_user("ada").await.unwrap();
    assert!(open.is_cancelled() && page.is_cancelled() && !open_of_bob.is_cancelled());
    assert!(directory.authenticate(token.expose()).is_none());
    assert!(directory.session(session.expose()).is_none());
    let refused = directory
        .create_session(ada, SignedInBy::Link, "", None)
        .await;
    assert!(matches!(refused, Err(Error::Suspended(_))));

    // Tokens have their effect again, and what begins then goes on; sessions are gone for good.
    directory.reactivate_user("ada").await.unwrap();
    let again = directory.authenticate(token.expose()).unwrap();
    assert!(!again.cut.is_cancelled());
    assert!(directory.session(session.expose()).is_none());

    directory.suspend_user("ada").await.unwrap();
    directory.store.close().await;
    let (after, _) = self::directory(&folder).await;
    assert!(after.authenticate(token.expose()).is_none());
}

#[tokio::test]
async fn the_local_administrator_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = directory(&folder).await;
    let suspended = directory.suspend_user("administrator").await;
    assert!(matches!(suspended, Err(Error::LocalAdministrator)));
    let demoted = directory.set_role("administrator", Role::User).await;
    assert!(matches!(demoted, Err(Error::LocalAdministrator)));
}

#[tokio::test]
async fn who_may_less_has_nothing_open_and_who_may_more_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = directory(&folder).await;
    let ada = directory.create_user(somebody("ada")).await.unwrap().id;
    let token = token(&directory, ada).await;
    let session = session(&directory, ada).await;
    let path: ProjectPath = "team/tools".parse().unwrap();
    let project = directory.create_project(path.clone()).await.unwrap();
    let created = directory.create_agent(name("a"), None, Some(project.id));
    created.await.unwrap();
    let open = || {
        let by_token = directory.authenticate(token.expose()).unwrap().cut;
        let by_session = directory.session(session.expose()).unwrap().0.cut;
        move || (by_token.is_cancelled(), by_session.is_cancelled())
    };
    let set = |role| directory.set_member(&path, "ada", role);

    let before = open();
    set(MemberRole::Developer).await.unwrap();
    set(MemberRole::Owner).await.unwrap();
    assert_eq!(before(), (false, false));
    set(MemberRole::Developer).await.unwrap();
    assert_eq!(before(), (true, true));
    let before = open();
    assert_eq!(before(), (false, false));
    directory.remove_member(&path, "ada").await.unwrap();
    assert_eq!(before(), (true, true));
    let gone = directory.remove_member(&path, "ada").await;
    assert!(matches!(gone, Err(Error::NoSuchMember(_))));

    set(MemberRole::Developer).await.unwrap();
    let before = open();
    let has_agents = directory.delete_project(&path).await;
    assert!(matches!(has_agents, Err(Error::ProjectHasAgents(_))));
    assert_eq!(before(), (false, false));
    directory.move_agent("a", None).await.unwrap();
    assert_eq!(before(), (true, true));
    directory.delete_project(&path).await.unwrap();
    assert!(directory.project(&path).is_err());
}

#[tokio::test]
async fn another_role_or_password_ends_sessions_and_keeps_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = directory(&folder).await;
    let ada = directory.create_user(somebody("ada")).await.unwrap().id;
    let token = token(&directory, ada).await;
    for change in 0..2 {
        let session = session(&directory, ada).await;
        let open = directory.authenticate(token.expose()).unwrap();
        match change {
            0 => directory
                .set_role("ada", Role::Administrator)
                .await
                .unwrap(),
            _ => directory.set_password("ada", None).await.unwrap(),
        };
        assert!(open.cut.is_cancelled());
        assert!(directory.session(session.expose()).is_none());
        let now = directory.authenticate(token.expose()).unwrap().principal;
        let role = Role::Administrator;
        assert!(matches!(now, Principal::Person { role: it, .. } if it == role));
    }
}

#[tokio::test]
async fn a_sign_in_takes_the_place_of_the_session_before_and_sessions_are_few() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = directory(&folder).await;
    let ada = directory.create_user(somebody("ada")).await.unwrap().id;
    let first = session(&directory, ada).await;
    let (open, before) = directory.session(first.expose()).unwrap();
    let second = directory
        .create_session(ada, SignedInBy::Password, "b", Some(&before))
        .await
        .unwrap();
    assert!(open.cut.is_cancelled() && directory.session(first.expose()).is_none());
    for _ in 0..60 {
        session(&directory, ada).await;
    }
    assert_eq!(directory.sessions_of(ada).len(), 50);
    assert!(directory.session(second.expose()).is_none());
    let id = directory.sessions_of(ada)[0].id;
    let stranger = directory
        .end_session_of(directory.administrator(), id)
        .await;
    assert!(matches!(stranger, Err(Error::NoSuchSession)));
    directory.end_session_of(ada, id).await.unwrap();
    assert_eq!(directory.sessions_of(ada).len(), 49);
}

#[tokio::test]
async fn a_browser_that_asks_for_nothing_is_signed_out() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = directory(&folder).await;
    let session = session(&directory, directory.administrator()).await;
    let (open, _) = directory.session(session.expose()).unwrap();
    let idle = Timestamp::now() + session::SESSION_IDLE;
    directory
        .maintain(idle - Duration::from_secs(60), true)
        .await
        .unwrap();
    assert!(!open.cut.is_cancelled());
    directory
        .maintain(idle + Duration::from_secs(60), true)
        .await
        .unwrap();
    assert!(open.cut.is_cancelled() && directory.session(session.expose()).is_none());
}

#[tokio::test]
async fn names_and_identities_are_of_one_user() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = directory(&folder).await;
    directory.create_user(somebody("ada")).await.unwrap();
    let again = directory.create_user(somebody("ada")).await;
    assert!(matches!(again, Err(Error::UserExists(_))));
    let identity = |subject: &str| Identity {
        issuer: "https://issuer".into(),
        subject: subject.into(),
    };
    let linked = directory.link_identity("ada", identity("1")).await;
    linked.unwrap();
    let found = directory.user_by_identity(&identity("1")).unwrap();
    assert_eq!(found.name.as_str(), "ada");
    let bob = NewUser {
        identity: Some(identity("1")),
        ..somebody("bob")
    };
    let taken = directory.create_user(bob.clone()).await;
    assert!(matches!(taken, Err(Error::IdentityTaken(_))));
    // Another one at the same provider takes its place.
    directory.link_identity("ada", identity("2")).await.unwrap();
    directory.create_user(bob).await.unwrap();
    let found = directory.user_by_identity(&identity("1")).unwrap();
    assert_eq!(found.name.as_str(), "bob");
}

#[test]
fn a_scope_is_written_by_its_name() {
    for scope in Scope::ALL {
        let text = serde_json::to_string(&scope).unwrap();
        assert_eq!(text, format!("\"{}\"", scope.as_str()));
        assert_eq!(Scope::from_name(scope.as_str()), Some(scope));
    }
}
