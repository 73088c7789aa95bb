//! The body of a request, as its frames come in.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};

use super::{broken, next_frame};
use crate::convert::http::{RequestFrame, request_frame};
use crate::kas::health::chain;
use crate::kubernetes::{self, Body};
use crate::tunnel::call::{CallError, Inbound};

/// The body of an upgrade request is read whole; kubectl sends none.
const MAX_UPGRADE_BODY: usize = 64 * 1024;

/// Where a body that broke the protocol says how: hyper wraps the error beyond recognition.
#[derive(Debug, Clone, Default)]
pub(super) struct Violation(Arc<Mutex<Option<CallError>>>);

impl Violation {
    pub(super) fn take(&self) -> Option<CallError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, error: CallError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// A body of `length` bytes, or of unknown length, that is read from the call as the API server takes it.
pub(super) fn stream(inbound: Inbound, length: Option<u64>) -> (Body, Violation) {
    let violation = Violation::default();
    let body = StreamBody {
        inbound,
        left: length,
        trailer: false,
        violation: violation.clone(),
    };
    (body.boxed_unsync(), violation)
}

struct StreamBody {
    inbound: Inbound,
    left: Option<u64>,
    trailer: bool,
    violation: Violation,
}

impl StreamBody {
    fn take(&mut self, frame: RequestFrame) -> Result<Option<Bytes>, CallError> {
        match frame {
            RequestFrame::Data(_) if self.trailer => Err(broken("data after the trailer")),
            RequestFrame::Data(data) => {
                if let Some(left) = &mut self.left {
                    *left = left
                        .checked_sub(data.len() as u64)
                        .ok_or_else(|| broken("more data than content_length"))?;
                }
                Ok((!data.is_empty()).then_some(data))
            }
            RequestFrame::Trailer => {
                self.trailer = true;
                Ok(None)
            }
            RequestFrame::Header(_) => Err(broken("second header")),
            RequestFrame::UpgradeData(_) => Err(broken(
                "upgrade data, but the request has no Upgrade header",
            )),
        }
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        loop {
            let Some(message) = ready!(self.inbound.poll_message(context)) else {
                return Poll::Ready(None);
            };
            let taken = request_frame(message)
                .map_err(|error| broken(chain(&error)))
                .and_then(|frame| self.take(frame));
            match taken {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(None) => {}
                Err(error) => {
                    self.violation.set(error.clone());
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map(SizeHint::with_exact).unwrap_or_default()
    }
}

/// The body of an upgrade request ends at the trailer, for the stream goes on after it.
pub(super) async fn until_trailer(inbound: &mut Inbound) -> Result<Body, CallError> {
    let mut body = BytesMut::new();
    loop {
        match next_frame(inbound).await? {
            Some(RequestFrame::Data(data)) if body.len() + data.len() <= MAX_UPGRADE_BODY => {
                body.extend_from_slice(&data);
            }
            Some(RequestFrame::Data(_)) => {
                return Err(broken(format!(
                    "the body of an upgrade request is larger than {MAX_UPGRADE_BODY} bytes"
                )));
            }
            Some(RequestFrame::Trailer) | None => break,
            Some(RequestFrame::Header(_)) => return Err(broken("second header")),
            Some(RequestFrame::UpgradeData(_)) => {
                return Err(broken("upgrade data before the trailer"));
            }
        }
    }
    if body.is_empty() {
        // Not even an empty chunk: SPDY servers take it for data.
        return Ok(kubernetes::empty());
    }
    Ok(Full::new(body.freeze())
        .map_err(|never| match never {})
        .boxed_unsync())
}
