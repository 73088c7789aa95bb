//! Requests of the server itself to an agent's cluster, for people who were authorised before.

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};

use super::{PREFIX, Proxy, respond, wire};
use super::{body::AnswerBody, wire::Exchange};
use crate::{directory::Cut, tunnel::Opening};

/// Why there is no answer of the cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("the request is none")]
    Request(#[source] http::Error),
    #[error("{0}")]
    Open(crate::tunnel::OpenError),
    #[error("{0}")]
    Answer(String),
}

impl Proxy {
    /// Reads from the Kubernetes API of an agent's cluster; the answer's body streams until it ends or `cut` does.
    pub(crate) async fn get(
        &self,
        agent_id: u64,
        path_and_query: &str,
        cut: Cut,
    ) -> Result<Response<Body>, AskError> {
        let path = path_and_query.trim_start_matches('/');
        let request = Request::get(format!("{PREFIX}{path}")).body(());
        let (parts, ()) = request.map_err(AskError::Request)?.into_parts();
        let opening = Opening {
            method: super::METHOD,
            messages: vec![
                wire::request_head(&parts, false, 0, None),
                wire::request_trailer(),
            ],
            close_send: true,
        };
        let call = self
            .tunnels
            .open(agent_id, &opening)
            .await
            .map_err(AskError::Open)?;
        let mut exchange = Exchange::new(call, false);
        let head = exchange
            .head()
            .await
            .map_err(|error| AskError::Answer(error.to_string()))?;
        let body = AnswerBody::new(exchange, &head, false, cut, None);
        Ok(respond(head, Body::new(body)))
    }

    /// The same, for an answer that is small.
    pub(crate) async fn get_whole(
        &self,
        agent_id: u64,
        path_and_query: &str,
        max_bytes: usize,
    ) -> Result<Response<Bytes>, AskError> {
        let answer = self.get(agent_id, path_and_query, Cut::new()).await?;
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, max_bytes).await;
        let body = body.map_err(|error| AskError::Answer(error.to_string()))?;
        Ok(Response::from_parts(parts, body))
    }
}
