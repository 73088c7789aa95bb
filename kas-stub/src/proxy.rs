//! The Kubernetes proxy: `/k8s-proxy/*` for kubectl and everything like it.
//!
//! A request becomes one call through a tunnel; bodies stream both ways, each piece flushed as it comes, so that
//! watches and `logs -f` work. After a 101 the bytes of both sides pass unread.

pub(crate) mod ask;
mod body;
mod headers;
mod impersonation;
mod query;
mod status;
mod upgrade;
mod wire;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use model::configuration::AccessAs;
use proto::kubernetes_api::rpc::HeaderExtra;
use tokio_util::task::TaskTracker;

use crate::{
    agents::bearer,
    audit::{Audit, Event},
    authorization::{Action, Decision, Principal, Relation, Resource, authorize},
    configuration::Configurations,
    connection_headers::is_upgrade,
    directory::{Authenticated, Cut, Directory},
    lingering::Lingering,
    listener::Lifetime,
    membership,
    metrics::{Metrics, Outcome},
    tunnel::{CallError, OpenError, Opening, Tunnels},
};
use body::{AbortOnDrop, AnswerBody, send_body};
use status::Failure;
use wire::{Exchange, ExchangeError, Head};

/// Where the proxy begins; what follows is the API server's path.
pub(crate) const PREFIX: &str = "/k8s-proxy/";
const METHOD: &str = "/gitlab.agent.kubernetes_api.rpc.KubernetesApi/MakeRequest";
/// Tunnels that one request may try.
const MAX_ATTEMPTS: usize = 3;
/// Bodies up to this are read before the request is sent, so that it can be sent again.
const WHOLE_BODY: u64 = 64 * 1024;
/// How long such a body may take.
const WHOLE_BODY_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Proxy {
    audit: Arc<Audit>,
    directory: Arc<Directory>,
    configurations: Arc<Configurations>,
    tunnels: Arc<Tunnels>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    killing: Cut,
}

/// Who may call which agent, and until when.
struct Grant {
    agent_id: u64,
    /// Whom the agent shall impersonate; none: it decides itself.
    as_user: Option<HeaderExtra>,
    /// Ends when the personal token does, or when its person may less.
    cut: Cut,
}

/// A request's body, as it will be sent.
enum RequestBody {
    Whole(Bytes),
    Streaming {
        body: Lingering,
        content_length: Option<u64>,
    },
}

/// Counts how a request ended, also when its future is dropped because the caller went away.
struct Counted<'a> {
    metrics: &'a Metrics,
    outcome: Outcome,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.proxied(self.outcome);
    }
}

impl Proxy {
    pub(crate) fn new(
        audit: Arc<Audit>,
        directory: Arc<Directory>,
        configurations: Arc<Configurations>,
        tunnels: Arc<Tunnels>,
        metrics: Arc<Metrics>,
        lifetime: &Lifetime,
    ) -> Self {
        Self {
            audit,
            directory,
            configurations,
            tunnels,
            metrics,
            tasks: lifetime.tasks.clone(),
            killing: lifetime.killing.clone(),
        }
    }

    pub(crate) async fn handle(
        &self,
        request: Request<Lingering>,
        from: Option<IpAddr>,
    ) -> Response<Body> {
        let mut counted = Counted {
            metrics: &self.metrics,
            outcome: Outcome::Abandoned,
        };
        match self.forward(request, from).await {
            Ok(response) => {
                counted.outcome = match response.status() {
                    StatusCode::SWITCHING_PROTOCOLS => Outcome::Upgraded,
                    _ => Outcome::Answered,
                };
                response
            }
            Err(failure) => {
                counted.outcome = failure.outcome();
                failure.into_response()
            }
        }
    }

    async fn forward(
        &self,
        mut request: Request<Lingering>,
        from: Option<IpAddr>,
    ) -> Result<Response<Body>, Failure> {
        let grant = self.admit(&request, from)?;
        let upgrade = is_upgrade(&request);
        let on_upgrade = upgrade.then(|| hyper::upgrade::on(&mut request));
        let is_head = request.method() == Method::HEAD;
        let idempotent = !upgrade && matches!(*request.method(), Method::GET | Method::HEAD);

        let (parts, body) = request.into_parts();
        let mut body = read_body(body, upgrade).await?;
        let (content_length, close_send) = match &body {
            RequestBody::Whole(bytes) => (bytes.len() as i64, !upgrade),
            RequestBody::Streaming { content_length, .. } => {
                (content_length.map_or(-1, |length| length as i64), false)
            }
        };
        let mut opening = Opening {
            method: METHOD,
            messages: vec![wire::request_head(
                &parts,
                upgrade,
                content_length,
                grant.as_user.as_ref(),
            )],
            close_send,
        };
        if let RequestBody::Whole(bytes) = &body {
            if !bytes.is_empty() {
                opening.messages.push(wire::request_data(bytes.clone()));
            }
            opening.messages.push(wire::request_trailer());
        }

        let began = Instant::now();
        for attempt in 1.. {
            let open = self.tunnels.open(grant.agent_id, &opening);
            let mut call = unless_cut(&grant.cut, open).await?.map_err(open_failure)?;
            self.metrics.found_tunnel(began.elapsed());
            let sender = call.take_sender();
            let mut sending = None;
            let mut upgrade_sender = None;
            let mut resendable = true;
            match (&mut body, sender) {
                (RequestBody::Whole(_), sender) => upgrade_sender = sender,
                (RequestBody::Streaming { .. }, sender) => {
                    let taken = std::mem::replace(&mut body, RequestBody::Whole(Bytes::new()));
                    if let (RequestBody::Streaming { body, .. }, Some(sender)) = (taken, sender) {
                        resendable = false;
                        let task = self.tasks.spawn(send_body(body, sender));
                        sending = Some(AbortOnDrop::new(task));
                    }
                }
            }
            let mut exchange = Exchange::new(call, upgrade);
            let head = match unless_cut(&grant.cut, exchange.head()).await? {
                Ok(head) => head,
                Err(error)
                    if attempt < MAX_ATTEMPTS && resendable && may_retry(&error, idempotent) =>
                {
                    tracing::debug!(agent = grant.agent_id, %error, attempt, "trying another tunnel");
                    self.metrics.retried();
                    continue;
                }
                Err(error) => return Err(exchange_failure(&error)),
            };
            self.metrics.got_head(began.elapsed());
            return Ok(match (on_upgrade, upgrade_sender) {
                (Some(on_upgrade), Some(sender))
                    if head.status == StatusCode::SWITCHING_PROTOCOLS =>
                {
                    let cut = grant.cut.clone();
                    let pass = upgrade::pass(on_upgrade, exchange, sender, cut);
                    let killing = self.killing.clone();
                    self.tasks.spawn(async move {
                        killing.run_until_cancelled(pass).await;
                    });
                    respond(head, Body::empty())
                }
                (_, upgrade_sender) => {
                    // An upgrade that was refused is an answer like any other.
                    if let Some(sender) = upgrade_sender {
                        let _ = sender.close().await;
                    }
                    let body = AnswerBody::new(exchange, &head, is_head, grant.cut, sending);
                    respond(head, Body::new(body))
                }
            });
        }
        unreachable!("the last attempt returns");
    }

    /// Authenticates and authorises; each decision is one line of the audit log.
    fn admit(&self, request: &Request<Lingering>, from: Option<IpAddr>) -> Result<Grant, Failure> {
        let credential = request
            .headers()
            .get(header::AUTHORIZATION)
            .ok_or(Failure::Unauthenticated("no Authorization header"))?
            .to_str()
            .ok()
            .and_then(bearer)
            .ok_or(Failure::Unauthenticated("expected Authorization: Bearer"))?;
        let (agent_id, secret) = credential
            .strip_prefix("pat:")
            .and_then(|rest| rest.split_once(':'))
            .ok_or(Failure::Unauthenticated(
                "expected a token of the form pat:<agent id>:<token>",
            ))?;
        let agent_id: u64 = agent_id
            .parse()
            .map_err(|_| Failure::Unauthenticated("the agent id in the token is no number"))?;
        let Authenticated { principal, cut } =
            self.directory
                .authenticate(secret)
                .ok_or(Failure::Unauthenticated(
                    "token is not known, revoked or expired",
                ))?;
        let agent = self.directory.agent_by_id(agent_id);
        let unknown = Resource::Agent {
            id: agent_id,
            relation: Relation::None,
        };
        let resource = agent.as_deref().map_or(unknown, |agent| {
            membership::on_agent(&self.directory, &self.configurations, &principal, agent)
        });
        let decision = authorize(&principal, Action::UseKubernetes, resource);
        self.note(request, &principal, agent_id, decision, from);
        match decision {
            Decision::Allowed => {}
            Decision::Unauthenticated => {
                return Err(Failure::Unauthenticated(
                    "token is not known, revoked or expired",
                ));
            }
            Decision::Forbidden if principal.user_id().is_none() => {
                return Err(Failure::Forbidden(
                    "a token of an agent is not for calls of people",
                ));
            }
            Decision::Forbidden => {
                return Err(Failure::Forbidden(
                    "this needs a member of the agent's project, or of one that its configuration file lets in",
                ));
            }
            Decision::TokenTooNarrow(_) => {
                return Err(Failure::Forbidden("the token has no scope k8s_proxy"));
            }
        }
        let Some(agent) = agent else {
            return Err(Failure::NotFound("there is no agent with this id"));
        };
        let state = self.configurations.state(&agent);
        let access = state
            .good
            .as_ref()
            .and_then(|good| good.configuration.user_access.as_ref());
        let as_user = match access.map(|it| it.access_as).unwrap_or_default() {
            AccessAs::Agent => None,
            AccessAs::User => {
                let user = principal.user_id().and_then(|id| self.directory.user(id));
                let user = user.ok_or(Failure::Forbidden("the token's user is not known"))?;
                // The configuration's project has the agent's number, as in what the agent is told.
                Some(impersonation::user(user.name.as_str(), agent_id, agent_id))
            }
        };
        Ok(Grant {
            agent_id,
            as_user,
            cut,
        })
    }

    /// One line of the log for each call. Kept are those that change something or go on, and refused ones.
    fn note(
        &self,
        request: &Request<Lingering>,
        principal: &Principal,
        agent_id: u64,
        decision: Decision,
        from: Option<IpAddr>,
    ) {
        // Without the query: the command of an exec stands there.
        let path = &request.uri().path()[PREFIX.len() - 1..];
        let method = request.method();
        let allowed = decision == Decision::Allowed;
        let event = Event {
            principal,
            action: Action::UseKubernetes,
            target: &format!("agent {agent_id}: {method} {path}"),
            allowed,
            from,
        };
        let is_reading = matches!(*method, Method::GET | Method::HEAD) && !is_upgrade(request);
        if allowed && is_reading {
            self.audit.log(&event);
        } else {
            self.audit.record(&event);
        }
    }
}

/// Waits, but no longer than the caller's token lives.
async fn unless_cut<T>(cut: &Cut, future: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = cut.cancelled() => Err(Failure::Unauthenticated("token is not known, revoked or expired")),
        output = future => Ok(output),
    }
}

async fn read_body(body: Lingering, upgrade: bool) -> Result<RequestBody, Failure> {
    if body.is_end_stream() {
        return Ok(RequestBody::Whole(Bytes::new()));
    }
    let content_length = body.size_hint().exact();
    if !upgrade && content_length.is_none_or(|length| length > WHOLE_BODY) {
        return Ok(RequestBody::Streaming {
            body,
            content_length,
        });
    }
    let whole = Limited::new(body, WHOLE_BODY as usize).collect();
    match tokio::time::timeout(WHOLE_BODY_TIMEOUT, whole).await {
        Ok(Ok(whole)) => Ok(RequestBody::Whole(whole.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::TooLarge(
            "the body of a request for an upgrade has at most 64 KiB",
        )),
        Ok(Err(_)) => Err(Failure::BadRequest("the body ended early")),
        Err(_) => Err(Failure::Timeout("the body took too long")),
    }
}

/// Whether the request has certainly not been done yet, or may be done twice.
fn may_retry(error: &ExchangeError, idempotent: bool) -> bool {
    match error {
        ExchangeError::Call(CallError::NotStarted(_)) => true,
        ExchangeError::Call(CallError::Broken(_)) => idempotent,
        ExchangeError::Call(CallError::Failed(_)) | ExchangeError::Wire(_) => false,
    }
}

fn open_failure(error: OpenError) -> Failure {
    match error {
        OpenError::NoTunnel => Failure::NoTunnel(error.to_string()),
        OpenError::TooManyWaiting => Failure::Busy(error.to_string()),
        OpenError::Stopping => Failure::Stopping(error.to_string()),
    }
}

fn exchange_failure(error: &ExchangeError) -> Failure {
    Failure::Agent(error.to_string())
}

fn respond(head: Head, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}
