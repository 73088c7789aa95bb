//! Our own language: one stream, on which both sides say what is new as soon as it is.

use futures::future::BoxFuture;
use prost::Message as _;
use proto::remote_development::rpc::Poll as Page;
use proto::remote_development::rpc::reconcile_request::Message;
use proto::remote_development::rpc::{Begin, ReconcileRequest, WorkspaceReport};
use tokio::sync::mpsc;

use super::api::Api;
use super::assemble::Assembler;
use super::link::{self, Broken, Event, Language, Link, Poll, Said};
use super::pull_secrets::Reader;
use crate::convert;
use crate::module::Control;

/// Pages of polls that wait for the server to read them.
const OUTGOING: usize = 4;
/// A page is full at this size: half of what a message may have.
const PAGE_BYTES: usize = 512 * 1024;

/// `RemoteDevelopment/Reconcile`.
#[derive(Debug)]
pub(super) struct Typed<'a> {
    pub(super) control: &'a Control,
    pub(super) api: Api,
    /// Grows with every change of the leader.
    pub(super) term: u64,
}

impl Link for Typed<'_> {
    fn name(&self) -> &'static str {
        "reconcile"
    }

    fn converse<'a>(
        &'a self,
        events: &'a mpsc::Sender<Event>,
    ) -> BoxFuture<'a, Result<(), Broken>> {
        Box::pin(self.stream_to_its_end(events))
    }
}

impl Typed<'_> {
    async fn stream_to_its_end(&self, events: &mpsc::Sender<Event>) -> Result<(), Broken> {
        let control = self.control;
        let (outgoing, mut requests) = mpsc::channel(OUTGOING);
        let requests = futures::stream::poll_fn(move |context| requests.poll_recv(context));
        let begin = Begin {
            agent_meta: Some(control.presence.agent_meta()),
            fencing_token: self.term,
        };
        let request = |message| ReconcileRequest {
            message: Some(message),
        };
        outgoing.send(request(Message::Begin(begin))).await.ok();
        let mut responses = control.client.reconcile(requests).await?;
        control.health.works(self.name());
        let (polls, mut polled) = mpsc::channel::<Poll>(1);
        let opened = Event::Opened(Language::Typed, polls);
        if events.send(opened).await.is_err() {
            return Ok(());
        }
        let sending = async {
            while let Some(poll) = polled.recv().await {
                for page in pages_of(poll) {
                    if outgoing.send(request(Message::Poll(page))).await.is_err() {
                        return;
                    }
                }
            }
        };
        let receiving = async {
            let mut assembler = Assembler::default();
            let mut reader = Reader::new(self.api.clone());
            while let Some(response) = responses.message().await? {
                for mut said in assembler.take(response) {
                    // Before the workspace is planned: its Pod should find them.
                    if let Said::Wish(_, _, secrets) = &mut said {
                        secrets.sources = reader.read(&secrets.wanted).await;
                    }
                    if events.send(Event::Said(said)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        };
        tokio::pin!(sending, receiving);
        tokio::select! {
            ended = &mut receiving => ended,
            // The driver dropped its end.
            () = &mut sending => Err(link::not_answered().into()),
        }
    }
}

fn pages_of(poll: Poll) -> Vec<Page> {
    let Poll {
        number,
        full,
        reports,
        operator,
        now,
    } = poll;
    let reports = reports.into_iter();
    let reports = reports.map(|report| convert::reconcile::report_to(report, now));
    let mut pages = pages(number, full, reports);
    if let Some(last) = pages.last_mut() {
        last.dev_workspace_operator = Some(convert::reconcile::operator_to(operator));
    }
    pages
}

/// Splits a poll so that no message is too large.
fn pages(number: u64, full: bool, reports: impl Iterator<Item = WorkspaceReport>) -> Vec<Page> {
    let page = || Page {
        number,
        full,
        reports: Vec::new(),
        more: false,
        dev_workspace_operator: None,
    };
    let (mut pages, mut bytes) = (vec![page()], 0);
    for report in reports {
        let size = report.encoded_len();
        if bytes > 0 && bytes + size > PAGE_BYTES {
            pages.push(page());
            bytes = 0;
        }
        bytes += size;
        if let Some(last) = pages.last_mut() {
            last.reports.push(report);
        }
    }
    let last = pages.len() - 1;
    for page in &mut pages[..last] {
        page.more = true;
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_of_many_reports_is_paged() {
        let report = |n: usize| WorkspaceReport {
            name: format!("w{n}"),
            namespace: "x".repeat(1000),
            ..WorkspaceReport::default()
        };
        let all = pages(3, true, (0..2000).map(report));
        assert!(all.len() > 2);
        assert!(
            all.iter()
                .all(|page| page.number == 3 && page.full && page.encoded_len() < 1024 * 1024)
        );
        assert_eq!(
            all.iter().map(|page| page.reports.len()).sum::<usize>(),
            2000
        );
        let more: Vec<_> = all.iter().map(|page| page.more).collect();
        assert!(more[..more.len() - 1].iter().all(|more| *more) && !more[more.len() - 1]);
        assert_eq!(pages(1, true, std::iter::empty()).len(), 1);
    }
}
