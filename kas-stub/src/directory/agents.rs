//! Agents as they were made, and in which project they are.

use std::sync::Arc;

use model::agent_name::AgentName;

use super::{
    Directory, Error, Result,
    projects::ProjectPath,
    records::{self, AgentRecord},
    token::{Token, TokenOwner},
};
use crate::{
    authorization::Scopes,
    secret::{Digest, Secret, random_id},
    store::Kind,
};

/// GitLab allows two, too: one in use, one to rotate to.
pub(super) const MAX_ACTIVE_AGENT_TOKENS: usize = 2;
pub(super) const MAX_AGENTS: usize = 10_000;
pub(super) const AGENT_TOKEN_PREFIX: &str = "glagent-";
const WEBHOOK_SECRET_PREFIX: &str = "rdhook-";

/// An agent.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) id: u64,
    pub(crate) name: AgentName,
    /// The Git project with the agent's configuration file.
    pub(crate) project_url: Option<String>,
    /// The project whose members may use it; none: only administrators do, and whom its configuration file lets in.
    pub(crate) project: Option<u64>,
    pub(super) webhook: Digest,
    /// In the store.
    pub(super) version: u64,
}

impl Agent {
    /// Whether this is the secret that the project's push hook was given.
    pub(crate) fn webhook_matches(&self, secret: &str) -> bool {
        self.webhook.matches(&Digest::of(secret))
    }
}

/// What `create_agent` gives, once.
#[derive(Debug)]
pub(crate) struct CreatedAgent {
    pub(crate) agent: Arc<Agent>,
    pub(crate) token: Secret,
    pub(crate) webhook_secret: Secret,
}

impl Directory {
    pub(crate) fn agents(&self) -> Vec<Arc<Agent>> {
        self.read().agents.values().cloned().collect()
    }

    pub(crate) fn agent(&self, name: &str) -> Option<Arc<Agent>> {
        self.read().agents.get(name).cloned()
    }

    pub(crate) fn agent_by_id(&self, id: u64) -> Option<Arc<Agent>> {
        self.read().agents_by_id.get(&id).cloned()
    }

    pub(crate) async fn create_agent(
        &self,
        name: AgentName,
        project_url: Option<String>,
        project: Option<u64>,
    ) -> Result<CreatedAgent> {
        let token = Secret::generate(AGENT_TOKEN_PREFIX);
        self.add_agent(name, project_url, project, random_id(), token)
            .await
    }

    /// Takes over an agent that another server made: it goes on with its id, by which it knows what is its own in its
    /// cluster, and its token.
    pub(crate) async fn import_agent(
        &self,
        name: AgentName,
        project_url: Option<String>,
        project: Option<u64>,
        id: u64,
        token: &str,
    ) -> Result<CreatedAgent> {
        let token = Secret::imported(AGENT_TOKEN_PREFIX, token).ok_or(Error::ImportedToken)?;
        if !(1..1 << 53).contains(&id) {
            return Err(Error::ImportedId);
        }
        let is_taken = {
            let index = self.read();
            index.agents_by_id.contains_key(&id) || index.tokens.contains_key(&token.digest())
        };
        if is_taken {
            return Err(Error::ImportedTwice);
        }
        self.add_agent(name, project_url, project, id, token).await
    }

    async fn add_agent(
        &self,
        name: AgentName,
        project_url: Option<String>,
        project: Option<u64>,
        id: u64,
        secret: Secret,
    ) -> Result<CreatedAgent> {
        let _writing = self.writing.lock().await;
        if self.agent(name.as_str()).is_some() {
            return Err(Error::AgentExists(name.to_string()));
        }
        if self.read().agents.len() >= MAX_AGENTS {
            return Err(Error::TooManyAgents);
        }
        let webhook_secret = Secret::generate(WEBHOOK_SECRET_PREFIX);
        let agent = Arc::new(Agent {
            id,
            name,
            project_url,
            project,
            webhook: webhook_secret.digest(),
            version: 1,
        });
        let owner = TokenOwner::Agent { id: agent.id };
        let token = Token::new(owner, String::new(), secret.digest(), None, Scopes::all());
        let token = Arc::new(token);
        let record = AgentRecord::from(&*agent);
        let writes = vec![
            records::write(Kind::Agent, agent.id.to_string(), 0, &record),
            token.write(),
        ];
        self.append(writes).await?;
        token.written();
        let mut index = self.write();
        index.set_agent(Arc::clone(&agent));
        index.tokens.insert(token.digest, token);
        Ok(CreatedAgent {
            agent,
            token: secret,
            webhook_secret,
        })
    }

    /// Puts an agent into another project, or into none. What members of the one before have open ends.
    pub(crate) async fn move_agent(
        &self,
        name: &str,
        to: Option<&ProjectPath>,
    ) -> Result<Arc<Agent>> {
        let _writing = self.writing.lock().await;
        let agent = self.agent(name);
        let agent = agent.ok_or_else(|| Error::NoSuchAgent(name.to_owned()))?;
        let to = to.map(|path| self.project(path)).transpose()?;
        let before = agent.project.and_then(|id| self.project_by_id(id));
        let moved = Arc::new(Agent {
            project: to.map(|it| it.id),
            version: agent.version + 1,
            ..Agent::clone(&agent)
        });
        let record = AgentRecord::from(&*moved);
        let id = moved.id.to_string();
        let write = records::write(Kind::Agent, id, agent.version, &record);
        self.append(vec![write]).await?;
        let mut index = self.write();
        index.set_agent(Arc::clone(&moved));
        for user in before.iter().flat_map(|it| it.members.keys()) {
            self.cut_user(&mut index, *user);
        }
        Ok(moved)
    }
}
