//! The Reconcile stream: keeps one open, sends polls, passes on what the server says. What is known here ends with a
//! stream; the driver's state does not.

use std::sync::Arc;
use std::time::Duration;

use agent_core::reconnect::{DelayClass, MIN_SPACING, Outcome, STABLE_AFTER, delay_class};
use proto::remote_development::rpc::reconcile_request::Message;
use proto::remote_development::rpc::{Begin, Poll, ReconcileRequest};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use super::assemble::{Assembler, Said};
use crate::backoff::Delays;
use crate::module::Control;

const CALL: &str = "reconcile";
/// Pages of polls that wait for the server to read them.
const OUTGOING: usize = 4;
/// A server that has not answered a poll for so long is stuck, or a proxy in between is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// What the link tells the driver.
#[derive(Debug)]
pub(super) enum Event {
    /// A stream is open: polls go there.
    Opened(mpsc::Sender<Vec<Poll>>),
    /// The server said something on it.
    Said(Said),
    /// It ended.
    Closed,
}

/// Keeps a stream open until it is dropped.
pub(super) async fn run(control: Arc<Control>, term: u64, events: mpsc::Sender<Event>) {
    let mut delays = Delays::default();
    loop {
        let opened = Instant::now();
        let outcome = match stream_to_its_end(&control, term, &events).await {
            Ok(()) => Outcome::Ended,
            Err(status) => control.health.failed(CALL, &status),
        };
        if events.send(Event::Closed).await.is_err() {
            return;
        }
        let lived = opened.elapsed();
        if lived >= STABLE_AFTER {
            delays.reset();
        }
        match delay_class(outcome) {
            DelayClass::AtOnce if lived >= MIN_SPACING => {}
            class @ (DelayClass::AtOnce
            | DelayClass::Outage
            | DelayClass::Refused
            | DelayClass::OtherCluster
            | DelayClass::Unsupported) => {
                tokio::time::sleep(delays.next_delay(class)).await;
            }
        }
    }
}

async fn stream_to_its_end(
    control: &Control,
    term: u64,
    events: &mpsc::Sender<Event>,
) -> Result<(), Status> {
    let (outgoing, mut requests) = mpsc::channel(OUTGOING);
    let requests = futures::stream::poll_fn(move |context| requests.poll_recv(context));
    let begin = Begin {
        agent_meta: Some(control.presence.agent_meta()),
        fencing_token: term,
    };
    let request = |message| ReconcileRequest {
        message: Some(message),
    };
    outgoing.send(request(Message::Begin(begin))).await.ok();
    let mut responses = control.client.reconcile(requests).await?;
    control.health.works(CALL);
    let (polls, mut pages) = mpsc::channel::<Vec<Poll>>(1);
    if events.send(Event::Opened(polls)).await.is_err() {
        return Ok(());
    }
    let sending = async {
        while let Some(pages) = pages.recv().await {
            for page in pages {
                if outgoing.send(request(Message::Poll(page))).await.is_err() {
                    return;
                }
            }
        }
    };
    let receiving = async {
        let mut assembler = Assembler::default();
        while let Some(response) = responses.message().await? {
            for said in assembler.take(response) {
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
        // The driver dropped its end: a poll was not answered in time.
        () = &mut sending => Err(Status::unavailable(format!(
            "a poll was not answered within {} s",
            ANSWER_TIMEOUT.as_secs()
        ))),
    }
}

/// Whether a poll sent at `sent` should have been answered.
pub(super) fn is_overdue(sent: Instant) -> bool {
    sent.elapsed() > ANSWER_TIMEOUT
}

/// When a poll sent at `sent` is overdue.
pub(super) fn overdue_at(sent: Instant) -> Instant {
    sent + ANSWER_TIMEOUT
}
