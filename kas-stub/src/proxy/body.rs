//! Bodies, in both directions.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    headers::content_length,
    wire::{self, Exchange, ExchangeError, Head, Part},
};
use crate::{directory::Cut, lingering::Lingering, tunnel::CallSender};

/// Sends a request's body piece by piece, as fast as the tunnel takes it. A body that breaks off is left without its
/// trailer: the caller is gone then, and the call is cancelled with its answer.
pub(super) async fn send_body(mut body: Lingering, sender: CallSender) {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return;
        };
        // An empty frame says nothing; trailers of requests have no place on the wire.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if !data.is_empty() && sender.send(wire::request_data(data)).await.is_err() {
            return;
        }
    }
    if sender.send(wire::request_trailer()).await.is_ok() {
        let _ = sender.close().await;
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(super) struct AbortOnDrop(JoinHandle<()>);

impl AbortOnDrop {
    pub(super) fn new(task: JoinHandle<()>) -> Self {
        Self(task)
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why an answer breaks off.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error(transparent)]
    Exchange(ExchangeError),
    #[error("the caller's token was revoked")]
    Revoked,
    #[error("the answer is longer than it said")]
    TooLong,
}

/// The body of an answer: each data message is one frame.
#[derive(Debug)]
pub(super) struct AnswerBody {
    exchange: Exchange,
    /// What is left to come, when the head said how much.
    remaining: Option<u64>,
    ended: bool,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _sending: Option<AbortOnDrop>,
}

impl AnswerBody {
    pub(super) fn new(
        mut exchange: Exchange,
        head: &Head,
        is_head: bool,
        cut: Cut,
        sending: Option<AbortOnDrop>,
    ) -> Self {
        let bodiless = is_head
            || matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        let remaining = if bodiless {
            Some(0)
        } else {
            content_length(&head.headers)
        };
        let ended = remaining == Some(0);
        if ended {
            // hyper will not poll this body: end the call now.
            exchange.finish();
        }
        Self {
            exchange,
            remaining,
            ended,
            cut: Box::pin(cut.cancelled_owned()),
            _sending: sending,
        }
    }

    /// The caller has everything; the tunnel ends in its own time.
    fn complete(&mut self) {
        self.ended = true;
        self.exchange.finish();
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if this.cut.as_mut().poll(cx).is_ready() {
            this.ended = true;
            return Poll::Ready(Some(Err(BodyError::Revoked)));
        }
        loop {
            let data = match std::task::ready!(this.exchange.poll_part(cx)) {
                Ok(Part::Data(data)) if data.is_empty() => continue,
                Ok(Part::Data(data)) => data,
                Ok(Part::Trailer | Part::End) => {
                    this.complete();
                    return Poll::Ready(None);
                }
                Ok(Part::UpgradeData(_)) => {
                    this.ended = true;
                    let error = ExchangeError::Wire("upgraded data without an upgrade");
                    return Poll::Ready(Some(Err(BodyError::Exchange(error))));
                }
                Err(error) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(BodyError::Exchange(error))));
                }
            };
            if let Some(remaining) = &mut this.remaining {
                match remaining.checked_sub(data.len() as u64) {
                    Some(left) => *remaining = left,
                    None => {
                        this.ended = true;
                        return Poll::Ready(Some(Err(BodyError::TooLong)));
                    }
                }
                // hyper stops at the stated length without asking for the end.
                if *remaining == 0 {
                    this.complete();
                }
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
