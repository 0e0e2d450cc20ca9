//! Bodies of requests: a long one is sent only when the server has said that it wants it.
//!
//! Without that a server that refuses must either read it all or break the connection off, and its
//! refusal may be lost with it (RFC 9110 section 10.1.1, RFC 9112 section 9.6).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{EXPECT, HeaderValue};
use hyper::{Request, StatusCode};
use tokio::sync::Notify;
use tokio::time::timeout;

/// What is sent without asking, in bytes.
const SHORT: usize = 32 << 10;
/// How long to wait for an answer before sending all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// The body of a request.
pub(super) struct RequestBody {
    bytes: Option<Bytes>,
    wanted: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl RequestBody {
    /// A request without one.
    pub(super) fn none() -> Self {
        Self { bytes: None, wanted: None }
    }
}

/// Gives a request a body, and asks first if it is a long one.
pub(super) fn attach(request: Request<()>, bytes: Vec<u8>) -> Request<RequestBody> {
    let is_long = bytes.len() > SHORT;
    let bytes = Some(Bytes::from(bytes)).filter(|bytes| !bytes.is_empty());
    let mut request = request.map(|()| RequestBody { bytes, wanted: None });
    if is_long {
        let may_go_on = Arc::new(Notify::new());
        let told = Arc::clone(&may_go_on);
        request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
        hyper::ext::on_informational(&mut request, move |answer| {
            if answer.status() == StatusCode::CONTINUE {
                told.notify_one();
            }
        });
        request.body_mut().wanted = Some(Box::pin(async move {
            let _ = timeout(PATIENCE, may_go_on.notified()).await;
        }));
    }
    request
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(wanted) = &mut self.wanted {
            ready!(wanted.as_mut().poll(cx));
            self.wanted = None;
        }
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
