//! One accepted connection: the handshake, and its requests one after another.
//!
//! Knows no question. Invariant: what an unknown client sends is read only as far as the head of its
//! first request.

use std::convert::Infallible;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::entrance::{Introduction, Pass};
use super::guard;
use super::secret::Token;

/// Longest head of a request, in bytes.
const LONGEST_HEAD: usize = 64 << 10;

/// What all connections share.
pub(super) struct Desk {
    pub(super) router: Router,
    pub(super) token: Token,
    /// In bytes.
    pub(super) longest_body: usize,
    /// For a handshake, and for the head of a request.
    pub(super) patience: Duration,
    /// Becomes true, or loses its sender, when the server closes.
    pub(super) stopped: watch::Receiver<bool>,
}

/// A connection as it was accepted.
pub(super) struct Guest {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// Its place among all connections.
    pub(super) place: OwnedSemaphorePermit,
    /// Its place among strangers.
    pub(super) pass: Pass,
}

/// Serves a connection until it ends, has to go, or becomes a WebSocket.
pub(super) async fn attend(desk: Arc<Desk>, acceptor: TlsAcceptor, guest: Guest) {
    let Guest { stream, peer, place, mut pass } = guest;
    let introduction = pass.introduction();
    tokio::select! {
        () = pass.asked_to_go() => tracing::debug!(%peer, "shows no token, and others wait"),
        outcome = converse(&desk, acceptor, (stream, place), introduction) => {
            if let Err(reason) = outcome {
                tracing::debug!(%peer, %reason, "the connection failed");
            }
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn converse(
    desk: &Desk,
    acceptor: TlsAcceptor,
    (stream, place): (TcpStream, OwnedSemaphorePermit),
    introduction: Introduction,
) -> Result<(), Failure> {
    let mut stopped = desk.stopped.clone();
    let mut is_over = pin!(stopped.wait_for(|stopped| *stopped));
    // Without it an answer may wait for the other side's next packet.
    stream.set_nodelay(true)?;
    let handshake = tokio::time::timeout(desk.patience, acceptor.accept(stream));
    let stream = tokio::select! {
        _ = &mut is_over => return Ok(()),
        stream = handshake => stream??,
    };
    let router = TowerToHyperService::new(desk.router.clone());
    let service = service_fn(|request: Request<Incoming>| {
        let admitted = guard::check(&desk.token, desk.longest_body, request.headers());
        if admitted.is_ok() {
            introduction.is_known();
        }
        answer(&router, request, admitted)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(desk.patience)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(Placed { stream, _place: place }), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        outcome = &mut connection => return Ok(outcome?),
        _ = &mut is_over => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

async fn answer(
    router: &TowerToHyperService<Router>,
    request: Request<Incoming>,
    admitted: Result<(), guard::Refusal>,
) -> Result<Response, Infallible> {
    match admitted {
        Ok(()) => router.call(request).await,
        Err(refusal) => Ok(refusal.into_response()),
    }
}

/// A stream that keeps its place for as long as it exists, also as a WebSocket.
struct Placed {
    stream: TlsStream<TcpStream>,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
