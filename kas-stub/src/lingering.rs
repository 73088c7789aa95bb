//! A request's body that outlives an answer which did not wait for it.
//!
//! Who is refused may still be sending. Dropped at once, the stream is reset while the client writes, and some clients
//! (curl up to 7.88 over HTTP/2) report that in the place of the answer, which says what to do. So the rest of a short body
//! is read and forgotten.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;

/// What is read of a body that nobody wants, in bytes.
const MOST: usize = 64 * 1024;
/// How long its sender has for that.
const LONGEST: Duration = Duration::from_secs(1);

/// A body that is read on for a moment when its reader drops it.
#[derive(Debug)]
pub(crate) struct Lingering {
    /// Absent once there is nothing left to read.
    body: Option<Incoming>,
    /// The client waits to be asked for the body, which reading would do.
    unasked: bool,
}

/// The same request, its body lingering.
pub(crate) fn linger(request: Request<Incoming>) -> Request<Lingering> {
    let unasked = request.headers().contains_key(header::EXPECT);
    request.map(|body| Lingering {
        body: Some(body),
        unasked,
    })
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let body = self.body.take().filter(|it| !it.is_end_stream());
        let (Some(body), false) = (body, self.unasked) else {
            return;
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LONGEST, forget(body)));
        }
    }
}

async fn forget(mut body: Incoming) {
    let mut left = MOST;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(less) => left = less,
            None => return,
        }
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        self.unasked = false;
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
