//! The asking side: requests and WebSockets to a server, over the network or a Unix socket.
//!
//! Knows no question; it sets no deadline for answers, that is the caller's. Invariant: a request is
//! sent once; it is sent again only if nothing of it was sent before.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::http::request::Builder;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::Role;
use torc_core::wire::{ErrorReport, PROTOCOL};

pub use super::dial::{Attempt, DialError};

use super::body::{self, RequestBody};
use super::channel::Settings;
use super::dial::{self, Wire};
use super::guard::{self, PROTOCOL_HEADER, SCHEME};
use super::remote::Remote;
use super::secret::Token;
use super::tls::{self, TlsError};
use crate::state_dir::{Owner, this_host};

/// The longest answer accepted: a million jobs fit.
const LONGEST_ANSWER: usize = 1 << 30;
/// The longest refusal worth reading.
const LONGEST_REFUSAL: usize = 64 << 10;
/// How long an unused connection is used again: less than a server keeps one.
const KEPT: Duration = Duration::from_secs(5);

/// A server cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// None of its addresses leads to it.
    #[error("no address leads to it: {}", join(.0))]
    Unreachable(Vec<Attempt>),
    /// Nobody listens on its Unix socket.
    #[error("{}: {error}", .socket.display())]
    NoSocket {
        /// The socket.
        socket: PathBuf,
        /// The operating system's words.
        error: std::io::Error,
    },
    /// The token is not its.
    #[error("it does not accept the token; its access file is not up to date")]
    WrongToken,
    /// It speaks another protocol.
    #[error("it speaks protocol {}, this torc {PROTOCOL}; use the same version of torc", theirs(.0))]
    OtherProtocol(Option<u32>),
    /// It did not open a WebSocket.
    #[error("it does not open a WebSocket ({status}): {reason}")]
    Refused {
        /// What it answered.
        status: StatusCode,
        /// In its words.
        reason: String,
    },
    /// The connection broke off; whether the request was carried out is unknown.
    #[error("the connection broke off: {0}")]
    Broken(String),
    /// The question is not one that HTTP can carry.
    #[error("the request is malformed: {0}")]
    Malformed(hyper::http::Error),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn join(attempts: &[Attempt]) -> String {
    let attempts: Vec<String> = attempts.iter().map(ToString::to_string).collect();
    if attempts.is_empty() { "it has none".to_owned() } else { attempts.join("; ") }
}

fn theirs(protocol: &Option<u32>) -> String {
    protocol.map_or_else(|| "unknown".to_owned(), |protocol| protocol.to_string())
}

/// A WebSocket to a server, for [`super::channel::Channel::over`].
pub type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// Somebody to ask.
pub struct Client {
    endpoint: Endpoint,
    idle: Mutex<Option<Idle>>,
}

enum Endpoint {
    Unix(PathBuf),
    /// Addresses, the one that worked first; and what to say there.
    Remote(Vec<String>, TlsConnector, Token),
}

type Http = SendRequest<RequestBody>;

/// A connection without a request under way.
struct Idle {
    http: Http,
    since: Instant,
}

impl Client {
    /// Finds the way to a server. It has proven then that it has the pinned key; the token and the
    /// protocol are looked at with the first request.
    ///
    /// # Errors
    /// When no address leads to it.
    pub async fn connect(remote: &Remote) -> Result<Self, ClientError> {
        let connector = tls::connector(remote.pin)?;
        let mut addresses = remote.addresses.clone();
        let (place, wire) =
            dial::any(&addresses, &connector).await.map_err(ClientError::Unreachable)?;
        addresses[..=place].rotate_right(1);
        let endpoint = Endpoint::Remote(addresses, connector, remote.token.clone());
        Self::with(endpoint, wire).await
    }

    /// Who listens on a Unix socket of this host.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn on_socket(socket: &Path) -> Result<Self, ClientError> {
        let wire = dial_socket(socket).await?;
        Self::with(Endpoint::Unix(socket.to_path_buf()), wire).await
    }

    /// The owner of a state directory: over its socket on the same host, else over the network.
    ///
    /// # Errors
    /// When neither leads to it.
    pub async fn reach(owner: &Owner) -> Result<Self, ClientError> {
        match &owner.remote {
            None => Self::on_socket(&owner.socket).await,
            Some(remote) if owner.host == this_host() => {
                match Self::on_socket(&owner.socket).await {
                    // A container of the same name, for instance, has another /tmp.
                    Err(ClientError::NoSocket { .. }) => Self::connect(remote).await,
                    outcome => outcome,
                }
            }
            Some(remote) => Self::connect(remote).await,
        }
    }

    async fn with(endpoint: Endpoint, wire: Box<dyn Wire>) -> Result<Self, ClientError> {
        let client = Self { endpoint, idle: Mutex::new(None) };
        client.keep(speak_http(wire).await?);
        Ok(client)
    }

    /// Asks, and waits for the answer. `body` is JSON; empty: there is none. An answer of any status
    /// is an answer, but for those that the connection itself gives.
    ///
    /// # Errors
    /// When there is no answer, or the connection is refused.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let request = self
            .head(method, path)
            .header(CONTENT_TYPE, "application/json")
            .body(())
            .map_err(ClientError::Malformed)?;
        let (http, response) = self.exchange(body::attach(request, body)).await?;
        let response = accepted(response)?;
        let status = response.status();
        let body = read(response, LONGEST_ANSWER).await?;
        // After a refusal the server may still be waiting for the body.
        if status.is_success() {
            self.keep(http);
        }
        Ok((status, body))
    }

    /// Opens a WebSocket, with a connection of its own.
    ///
    /// # Errors
    /// When the server refuses it or cannot be asked.
    pub async fn websocket(
        &self,
        path: &str,
        headers: HeaderMap,
        settings: &Settings,
    ) -> Result<WebSocket, ClientError> {
        let key = generate_key();
        let mut request = self
            .head(Method::GET, path)
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key)
            .body(RequestBody::none())
            .map_err(ClientError::Malformed)?;
        request.headers_mut().extend(headers);
        let (_, response) = self.exchange(request).await?;
        let response = accepted(response)?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let reason = reason(&read(response, LONGEST_REFUSAL).await?);
            return Err(ClientError::Refused { status, reason });
        }
        let answer = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        if answer != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            let reason = "its answer does not fit the question".to_owned();
            return Err(ClientError::Refused { status, reason });
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(broken)?;
        let (io, config) = (TokioIo::new(upgraded), settings.websocket());
        Ok(WebSocketStream::from_raw_socket(io, Role::Client, Some(config)).await)
    }

    fn head(&self, method: Method, path: &str) -> Builder {
        let head = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "torc")
            .header(PROTOCOL_HEADER, PROTOCOL);
        match &self.endpoint {
            Endpoint::Unix(_) => head,
            Endpoint::Remote(_, _, token) => {
                let mut value = HeaderValue::from_str(&format!("{SCHEME}{}", token.reveal()))
                    .expect("digits are a value");
                value.set_sensitive(true);
                head.header(AUTHORIZATION, value)
            }
        }
    }

    /// Sends a request and waits for the head of its answer. The connection can be used again once
    /// the body of the answer is read.
    async fn exchange(
        &self,
        request: Request<RequestBody>,
    ) -> Result<(Http, Response<Incoming>), ClientError> {
        let request = match self.take_idle().await {
            None => request,
            Some(mut http) => match http.try_send_request(request).await {
                Ok(response) => return Ok((http, response)),
                // The server closed it meanwhile, and nothing was sent.
                Err(mut failed) => match failed.take_message() {
                    Some(request) => request,
                    None => return Err(broken(failed.into_error())),
                },
            },
        };
        let mut http = speak_http(self.dial().await?).await?;
        let response = http.send_request(request).await.map_err(broken)?;
        Ok((http, response))
    }

    async fn dial(&self) -> Result<Box<dyn Wire>, ClientError> {
        match &self.endpoint {
            Endpoint::Unix(socket) => dial_socket(socket).await,
            Endpoint::Remote(addresses, connector, _) => {
                let dialed = dial::any(addresses, connector).await;
                dialed.map(|(_, wire)| wire).map_err(ClientError::Unreachable)
            }
        }
    }

    /// The connection of the request before, if it is still of use.
    async fn take_idle(&self) -> Option<Http> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let Idle { mut http, since } = idle;
        let is_of_use = since.elapsed() < KEPT && http.ready().await.is_ok();
        is_of_use.then_some(http)
    }

    fn keep(&self, http: Http) {
        let idle = Idle { http, since: Instant::now() };
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(idle);
    }
}

async fn dial_socket(socket: &Path) -> Result<Box<dyn Wire>, ClientError> {
    match UnixStream::connect(socket).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(ClientError::NoSocket { socket: socket.to_path_buf(), error }),
    }
}

async fn speak_http(wire: Box<dyn Wire>) -> Result<Http, ClientError> {
    let (http, connection) = handshake(TokioIo::new(wire)).await.map_err(broken)?;
    // Ends when `http` is dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a server failed");
        }
    });
    Ok(http)
}

/// Sorts out what a server answers before anybody has looked at the question.
fn accepted(response: Response<Incoming>) -> Result<Response<Incoming>, ClientError> {
    match response.status() {
        StatusCode::UNAUTHORIZED => Err(ClientError::WrongToken),
        StatusCode::UPGRADE_REQUIRED => {
            Err(ClientError::OtherProtocol(guard::protocol(response.headers())))
        }
        _ => Ok(response),
    }
}

async fn read(response: Response<Incoming>, longest: usize) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), longest).collect().await;
    Ok(body.map_err(|error| ClientError::Broken(error.to_string()))?.to_bytes())
}

/// A refusal in words.
fn reason(body: &[u8]) -> String {
    match serde_json::from_slice::<ErrorReport>(body) {
        Ok(report) => report.error,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

fn broken(error: hyper::Error) -> ClientError {
    use std::error::Error;
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    ClientError::Broken(format!("{error}{cause}"))
}
