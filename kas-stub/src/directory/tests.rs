use super::*;
use crate::store::SqliteStore;

async fn directory(folder: &tempfile::TempDir) -> (Directory, bool) {
    let store = SqliteStore::open(&folder.path().join("db")).await.unwrap();
    Directory::open(Arc::new(store)).await.unwrap()
}

fn name(name: &str) -> AgentName {
    name.parse().unwrap()
}

#[tokio::test]
async fn everything_is_there_after_a_restart_and_the_administrator_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let (first, made) = directory(&folder).await;
    assert!(made);
    let created = first.create_agent(name("a"), None).await.unwrap();
    let (_, token) = first
        .create_personal_token(first.administrator(), "laptop".into(), None)
        .await
        .unwrap();
    let session = first.create_session(first.administrator()).await.unwrap();
    first.authenticate(token.expose()).unwrap();
    first.maintain(Timestamp::now(), true).await.unwrap();
    first.store.close().await;

    let (second, made) = directory(&folder).await;
    assert!(!made && second.administrator() == first.administrator());
    let agent_token = second.authenticate(created.token.expose()).unwrap();
    assert_eq!(
        agent_token.owner,
        TokenOwner::Agent {
            id: created.agent.id
        }
    );
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
        .create_agent(name("a"), None)
        .await
        .unwrap();
    let token = directory_before
        .authenticate(created.token.expose())
        .unwrap();
    let owner = TokenOwner::Agent {
        id: created.agent.id,
    };
    directory_before
        .revoke_token(owner, token.id)
        .await
        .unwrap();
    directory_before
        .revoke_token(owner, token.id)
        .await
        .unwrap();
    assert!(token.cancelled().is_cancelled());
    assert!(
        directory_before
            .authenticate(created.token.expose())
            .is_none()
    );
    let stranger = TokenOwner::Agent { id: 1 };
    let refused = directory_before.revoke_token(stranger, token.id).await;
    assert!(matches!(refused, Err(Error::NoSuchToken)));
    directory_before.store.close().await;
    let (after, _) = directory(&folder).await;
    assert!(after.authenticate(created.token.expose()).is_none());
}

#[tokio::test]
async fn an_agent_has_two_active_tokens_at_most_and_a_name_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = directory(&folder).await;
    let agent = directory.create_agent(name("a"), None).await.unwrap().agent;
    let (second, _) = directory.create_agent_token(&agent).await.unwrap();
    let third = directory.create_agent_token(&agent).await;
    assert!(matches!(third, Err(Error::TooManyAgentTokens(_))));
    directory
        .revoke_token(second.owner, second.id)
        .await
        .unwrap();
    directory.create_agent_token(&agent).await.unwrap();
    let again = directory.create_agent(name("a"), None).await;
    assert!(matches!(again, Err(Error::AgentExists(_))));
}

#[tokio::test]
async fn expired_credentials_end_with_what_runs_by_them() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = directory(&folder).await;
    let soon = Timestamp::now() + Duration::from_secs(60);
    let user = directory.administrator();
    let (token, secret) = directory
        .create_personal_token(user, "t".into(), Some(soon))
        .await
        .unwrap();
    let session = directory.create_session(user).await.unwrap();
    directory.maintain(Timestamp::now(), true).await.unwrap();
    assert!(!token.cancelled().is_cancelled() && directory.authenticate(secret.expose()).is_some());
    let later = Timestamp::now() + SESSION_LENGTH + Duration::from_secs(1);
    directory.maintain(later, true).await.unwrap();
    assert!(token.cancelled().is_cancelled());
    assert!(directory.session(session.expose()).is_none());
}
