//! Servers and clients on real sockets of this host.
//!
//! Here: what the tests share. A server answers `hello`, tells a body's length, and echoes messages.

mod channels;
mod requests;
mod silence;
mod strangers;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::channel::{Channel, Settings};
use super::identity::Identity;
use super::listener::{Limits, Listener, bind_at};
use super::remote::Remote;
use super::secret::Token;
use super::{dial, tls};

/// What the tests say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    number: u32,
    text: String,
}

impl Note {
    fn new(number: u32) -> Self {
        Self { number, text: format!("the note with the number {number}") }
    }
}

struct Server {
    listener: Listener,
    identity: Identity,
    /// Requests that got past the guard.
    answered: Arc<AtomicUsize>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        Self::with(limits, Identity::generate().expect("is made"), 0).await
    }

    async fn with(limits: Limits, identity: Identity, port: u16) -> Self {
        let answered = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&answered);
        let router = Router::new()
            .route("/v1/hello", get(async || "\"hello\""))
            .route("/v1/length", post(async |body: Bytes| body.len().to_string()))
            .route(
                "/v1/notes",
                get(async |upgrade: WebSocketUpgrade| {
                    Channel::accept(upgrade, Settings::default(), echo)
                }),
            )
            .layer(axum::middleware::map_request(move |request: axum::extract::Request| {
                counter.fetch_add(1, Ordering::Relaxed);
                std::future::ready(request)
            }));
        let listener = listen(&identity, router, limits, port);
        Self { listener, identity, answered }
    }

    fn remote(&self) -> Remote {
        remote(&self.listener, &self.identity)
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }
}

fn listen(identity: &Identity, router: Router, limits: Limits, port: u16) -> Listener {
    let socket = bind_at((Ipv4Addr::LOCALHOST, port).into()).expect("is bound");
    Listener::start(socket, identity, router, limits).expect("listens")
}

fn remote(listener: &Listener, identity: &Identity) -> Remote {
    Remote {
        addresses: vec![listener.address().to_string()],
        pin: identity.pin(),
        token: identity.token().clone(),
    }
}

async fn echo(mut channel: Channel<Note, Note>) {
    while let Ok(note) = channel.receiver.next().await {
        channel.sender.send(&note).expect("is taken");
    }
}

/// Limits under which nobody has to go but for want of places.
fn patient() -> Limits {
    Limits { handshake: Duration::from_secs(3600), ..Limits::default() }
}

/// Limits under which who stands still has to go soon.
fn impatient() -> Limits {
    Limits { handshake: Duration::from_millis(100), ..Limits::default() }
}

/// An address at which nobody listens.
async fn nowhere() -> SocketAddr {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("is bound");
    socket.local_addr().expect("has an address")
}

fn token() -> Token {
    Token::random().expect("there is randomness")
}

/// What a server answers to these bytes, sent with the right key, until it closes the connection.
async fn say(remote: &Remote, bytes: &[u8]) -> String {
    let connector = tls::connector(remote.pin).expect("TLS is there");
    let (_, mut wire) = dial::any(&remote.addresses, &connector).await.expect("is connected");
    wire.write_all(bytes).await.expect("is sent");
    wire.flush().await.expect("is sent");
    let mut answer = Vec::new();
    // It may close without a farewell.
    let _ = wire.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
