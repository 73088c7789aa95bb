//! GitLab's language: JSON over HTTP over `GitlabAccess`, a poll every few seconds, because the server says nothing by
//! itself. How it answers is told in `agent_core::gitlab`.
//!
//! Pull secrets that an answer names are copied with the workspace's objects, and read again with every full poll.

use std::time::Duration;

use agent_core::gitlab::Book;
use agent_core::pull_secrets::{Source, Sources};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::Method;
use model::configuration::ImagePullSecret;
use serde_json::Value;
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::api::Api;
use super::link::{self, ANSWER_TIMEOUT, Broken, Event, Language, Link, Poll, Said, Settings};
use super::pull_secrets::{self, PullSecrets};
use crate::convert::gitlab::{self, AnswerFrame, RailsInfo};
use crate::module::Control;

const MODULE: &str = "remote_development";
/// How often the server is asked until it says otherwise (GitLab's).
const PARTIAL_INTERVAL: Duration = Duration::from_secs(10);
/// The longest answer: a full one of a thousand workspaces has some 20 MiB.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// How much is told of an answer that says no.
const MAX_REASON_BYTES: usize = 512;

/// `GitlabAccess/MakeRequest` with the paths of Rails.
#[derive(Debug)]
pub(super) struct Gitlab<'a> {
    pub(super) control: &'a Control,
    pub(super) api: Api,
    pub(super) agent_id: i64,
}

impl Link for Gitlab<'_> {
    fn name(&self) -> &'static str {
        "gitlab_reconcile"
    }

    fn converse<'a>(
        &'a self,
        events: &'a mpsc::Sender<Event>,
    ) -> BoxFuture<'a, Result<(), Broken>> {
        Box::pin(self.poll_to_its_end(events))
    }
}

impl Gitlab<'_> {
    async fn poll_to_its_end(&self, events: &mpsc::Sender<Event>) -> Result<(), Broken> {
        let shared_namespace = self.shared_namespace().await?;
        let connection = self.control.client.dialled();
        let mut book = Book::new(self.agent_id, shared_namespace);
        let (polls, mut polled) = mpsc::channel::<Poll>(1);
        let at_first = Settings {
            full_interval: None,
            partial_interval: Some(PARTIAL_INTERVAL),
        };
        for event in [
            Event::Opened(Language::Gitlab, polls),
            Event::Said(Said::Settings(at_first)),
        ] {
            if events.send(event).await.is_err() {
                return Ok(());
            }
        }
        // Another connection may lead to another server, which may know our language.
        while self.control.client.dialled() == connection {
            let Some(poll) = polled.recv().await else {
                return Err(link::not_answered().into());
            };
            for said in self.ask(&mut book, poll).await? {
                if events.send(Event::Said(said)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The namespace that workspaces share, where they do. Servers before 18.0 know nothing of that.
    async fn shared_namespace(&self) -> Result<Option<String>, Broken> {
        let (status, body) = self
            .call(Method::GET, "/prerequisites", Bytes::new())
            .await?;
        match status {
            200 => {}
            404 => return Ok(None),
            _ => return Err(refused("/prerequisites", status, &body)),
        }
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let name = body["shared_namespace"].as_str().unwrap_or_default();
        Ok((!name.is_empty()).then(|| name.to_owned()))
    }

    async fn ask(&self, book: &mut Book, poll: Poll) -> Result<Vec<Said>, Broken> {
        let Poll {
            number,
            full,
            reports,
            // GitLab's language has no word for it.
            operator: _,
            now: _,
        } = poll;
        for report in &reports {
            book.holds(&report.place, &report.id);
        }
        let meant = reports.iter().filter(|it| book.means(&it.place, &it.id));
        let body = gitlab::reconcile_body(full, meant);
        drop(reports);
        let (status, body) = self.call(Method::POST, "/reconcile", body).await?;
        if status != 201 {
            return Err(refused("/reconcile", status, &body));
        }
        let answer = gitlab::answer_from(&body).map_err(|reason| {
            Broken::Refused(Status::internal(format!("unusable answer: {reason}")))
        })?;
        drop(body);
        self.control.health.works(self.name());
        let mut said = vec![Said::Settings(Settings {
            full_interval: answer.full_interval,
            partial_interval: Some(answer.partial_interval.unwrap_or(PARTIAL_INTERVAL)),
        })];
        let mut sources = Sources::new();
        for info in answer.infos {
            let RailsInfo {
                mut info,
                pull_secrets,
            } = match info {
                Ok(info) => info,
                Err(reason) => {
                    said.push(Said::Nonsense(reason));
                    continue;
                }
            };
            info.pull_secrets = self
                .copies(&mut sources, pull_secrets, &info.namespace)
                .await;
            if let Some((desired, content)) = book.take(info, full) {
                said.push(Said::Wish(desired, content, PullSecrets::default()));
            }
        }
        said.push(Said::Answered(number));
        Ok(said)
    }

    /// Copies of pull secrets for a namespace; `None` where one cannot be read now. One that is not there is left out, as
    /// GitLab's agent does.
    async fn copies(
        &self,
        sources: &mut Sources,
        secrets: Vec<ImagePullSecret>,
        namespace: &str,
    ) -> Option<Vec<Value>> {
        let mut copies = Vec::new();
        for secret in secrets {
            // Where workspaces share a namespace, it is there.
            if secret.namespace == namespace {
                continue;
            }
            if !sources.contains_key(&secret) {
                let source = pull_secrets::read(&self.api, &secret).await;
                if let Some(failure) = source.failure(&secret) {
                    tracing::warn!(evidence = failure.evidence, "{}", failure.message);
                }
                sources.insert(secret.clone(), source);
            }
            match sources.get(&secret) {
                Some(Source::Unreadable(_) | Source::NotAllowed(_)) => return None,
                Some(source) => copies.extend(source.copy(&secret.name, namespace)),
                None => {}
            }
        }
        Some(copies)
    }

    /// One request: status and body.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(u16, Vec<u8>), Status> {
        let request = futures::stream::iter(gitlab::request(MODULE, &method, path, body));
        let exchange = async {
            let mut answer = self.control.client.gitlab(request).await?;
            let out_of_order = || Status::internal("the answer's messages are out of order");
            let first = answer.message().await?.and_then(gitlab::answer_frame);
            let Some(AnswerFrame::Head(status)) = first else {
                return Err(out_of_order());
            };
            let mut body = Vec::new();
            loop {
                match answer.message().await?.and_then(gitlab::answer_frame) {
                    Some(AnswerFrame::Data(data)) => {
                        if body.len() + data.len() > MAX_ANSWER_BYTES {
                            let reason =
                                format!("the answer has more than {MAX_ANSWER_BYTES} bytes");
                            return Err(Status::new(Code::OutOfRange, reason));
                        }
                        body.extend_from_slice(&data);
                    }
                    Some(AnswerFrame::Trailer) => return Ok((status, body)),
                    Some(AnswerFrame::Head(_)) | None => return Err(out_of_order()),
                }
            }
        };
        tokio::time::timeout(ANSWER_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(link::not_answered()))
    }
}

fn refused(path: &str, status: u16, body: &[u8]) -> Broken {
    let body = String::from_utf8_lossy(&body[..body.len().min(MAX_REASON_BYTES)]);
    Broken::Refused(Status::failed_precondition(format!(
        "{path} was answered with {status}: {body}"
    )))
}
