//! Making and revoking tokens.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Agent, Directory, Error, Result,
    agents::{AGENT_TOKEN_PREFIX, MAX_ACTIVE_AGENT_TOKENS},
    token::{Token, TokenOwner},
};
use crate::{authorization::Scopes, secret::Secret};

/// Active tokens of a person.
pub(super) const MAX_PERSONAL_TOKENS: usize = 1_000;
/// Revoked and expired tokens of an owner that are kept to be looked at; the oldest are forgotten for one more.
const MAX_OVER: usize = 100;
/// Longest name of a personal token.
pub(super) const MAX_TOKEN_NAME: usize = 200;
const PERSONAL_TOKEN_PREFIX: &str = "rdpat-";

impl Directory {
    /// All tokens of an owner, revoked ones too, oldest first.
    pub(crate) fn tokens(&self, owner: TokenOwner) -> Vec<Arc<Token>> {
        let mut tokens: Vec<_> = self
            .read()
            .tokens
            .values()
            .filter(|token| token.owner == owner)
            .cloned()
            .collect();
        tokens.sort_by_key(|token| (token.created_at, token.id));
        tokens
    }

    pub(crate) async fn create_agent_token(&self, agent: &Agent) -> Result<(Arc<Token>, Secret)> {
        let _writing = self.writing.lock().await;
        let owner = TokenOwner::Agent { id: agent.id };
        if self.active_tokens(owner) >= MAX_ACTIVE_AGENT_TOKENS {
            return Err(Error::TooManyAgentTokens(agent.name.to_string()));
        }
        let secret = Secret::generate(AGENT_TOKEN_PREFIX);
        let token = Token::new(owner, String::new(), secret.digest(), None, Scopes::all());
        self.add_token(token, secret).await
    }

    pub(crate) async fn create_personal_token(
        &self,
        user_id: u64,
        name: String,
        expires_at: Option<Timestamp>,
        scopes: Scopes,
    ) -> Result<(Arc<Token>, Secret)> {
        let _writing = self.writing.lock().await;
        if !(1..=MAX_TOKEN_NAME).contains(&name.chars().count()) {
            return Err(Error::TokenName);
        }
        let owner = TokenOwner::User { id: user_id };
        if self.active_tokens(owner) >= MAX_PERSONAL_TOKENS {
            return Err(Error::TooManyPersonalTokens);
        }
        let secret = Secret::generate(PERSONAL_TOKEN_PREFIX);
        let token = Token::new(owner, name, secret.digest(), expires_at, scopes);
        self.add_token(token, secret).await
    }

    async fn add_token(&self, token: Token, secret: Secret) -> Result<(Arc<Token>, Secret)> {
        let token = Arc::new(token);
        let forgotten = self.too_many_over(token.owner);
        let mut writes = vec![token.write()];
        writes.extend(forgotten.iter().map(|it| it.end()));
        self.append(writes).await?;
        token.written();
        let mut index = self.write();
        for over in forgotten {
            index.tokens.remove(&over.digest);
        }
        index.tokens.insert(token.digest, Arc::clone(&token));
        Ok((token, secret))
    }

    fn too_many_over(&self, owner: TokenOwner) -> Vec<Arc<Token>> {
        let now = Timestamp::now();
        let tokens = self.tokens(owner).into_iter();
        let mut over: Vec<_> = tokens.filter(|token| !token.is_active(now)).collect();
        let too_many = over.len().saturating_sub(MAX_OVER);
        over.truncate(too_many);
        over
    }

    /// Revokes a token; everything that runs by it ends at once. Revoking twice is fine.
    pub(crate) async fn revoke_token(&self, owner: TokenOwner, id: u64) -> Result<Arc<Token>> {
        let _writing = self.writing.lock().await;
        let token = self
            .tokens(owner)
            .into_iter()
            .find(|token| token.id == id)
            .ok_or(Error::NoSuchToken)?;
        if token.revoked_at().is_none() {
            self.append(vec![token.write_revoked(Timestamp::now())])
                .await?;
            token.revoked();
        }
        Ok(token)
    }

    fn active_tokens(&self, owner: TokenOwner) -> usize {
        let now = Timestamp::now();
        self.read()
            .tokens
            .values()
            .filter(|token| token.owner == owner && token.is_active(now))
            .count()
    }
}
