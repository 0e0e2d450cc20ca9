//! The listening side: from a TCP socket to requests of clients that have shown the token.
//!
//! Knows no question; a router has the answers. Invariants: no request reaches the router without the
//! token; what strangers can make the server hold is bounded in number, size and time; running out of
//! file descriptors pauses it and does not end it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::connection::{self, Desk, Guest};
use super::entrance::Entrance;
use super::identity::Identity;
use super::tls::{self, TlsError};

/// How many connections may wait to be accepted: all workers of a cluster may come at once. Beyond it,
/// or beyond what the host allows, clients try again after a second (listen(2), tcp(7)).
const BACKLOG: u32 = 4096;
/// How long to wait when there are no descriptors or buffers left.
const EXHAUSTION_PAUSE: Duration = Duration::from_millis(200);

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a TLS handshake may take, and how long the head of a request.
    pub handshake: Duration,
    /// How long a stranger may stay although others wait.
    pub grace: Duration,
    /// Connections that have not shown the token, at a time.
    pub strangers: usize,
    /// Connections in all, at a time.
    pub connections: usize,
    /// The longest body of a request, in bytes.
    pub body: usize,
    /// How long requests under way may take once the server closes.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            grace: Duration::from_secs(1),
            strangers: 64,
            connections: 8192,
            body: 1 << 30,
            farewell: Duration::from_secs(5),
        }
    }
}

/// A socket that listens on all addresses of this host, of both families where it has both; port 0:
/// any that is free.
///
/// # Errors
/// When the port is taken or must not be used.
pub fn bind(port: u16) -> std::io::Result<TcpListener> {
    match bind_at(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
        // This host has no version 6.
        Err(error) if has_no_such_family(&error) => {
            bind_at(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        }
        outcome => outcome,
    }
}

/// A socket that listens on one address only, or on all of them if it is `0.0.0.0` or `::`.
///
/// # Errors
/// As [`bind`], and when the address is not this host's.
pub fn bind_at(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    if address.is_ipv6() {
        // What a host says of its own accord differs (ipv6(7), bindv6only).
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    // A server that is started again must not wait until the last one's connections are forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn has_no_such_family(error: &std::io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(
        code,
        Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL | Errno::EINVAL | Errno::ENOPROTOOPT)
    )
}

/// A server that listens. Dropping it closes it without waiting.
pub struct Listener {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Begins to answer with this router whoever has this identity's token. Must be called within a
    /// runtime.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn start(
        socket: TcpListener,
        identity: &Identity,
        router: Router,
        limits: Limits,
    ) -> Result<Self, ListenError> {
        let address = socket.local_addr().map_err(ListenError::NoAddress)?;
        let acceptor = tls::acceptor(identity)?;
        let (stop, stopped) = watch::channel(false);
        let desk = Desk {
            router: router.layer(DefaultBodyLimit::max(limits.body)),
            token: identity.token().clone(),
            longest_body: limits.body,
            patience: limits.handshake,
            stopped,
        };
        let doorman = Doorman {
            socket,
            acceptor,
            desk: Arc::new(desk),
            entrance: Entrance::new(limits.strangers, limits.grace),
            places: Arc::new(Semaphore::new(limits.connections)),
            limits,
        };
        Ok(Self { address, stop, task: tokio::spawn(doorman.work()) })
    }

    /// What it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and no more requests, and waits a while for those under way.
    /// WebSockets are their handlers' business.
    pub async fn close(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// Nobody can be listened to.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The socket does not know where it is bound.
    #[error("the listening socket has no address: {0}")]
    NoAddress(std::io::Error),
}

/// Lets connections in.
struct Doorman {
    socket: TcpListener,
    acceptor: TlsAcceptor,
    desk: Arc<Desk>,
    entrance: Arc<Entrance>,
    places: Arc<Semaphore>,
    limits: Limits,
}

impl Doorman {
    async fn work(self) {
        let mut guests = JoinSet::new();
        let mut stopped = self.desk.stopped.clone();
        // Ends also when whoever could say so is gone.
        let mut is_over = pin!(stopped.wait_for(|stopped| *stopped));
        {
            let mut arrival = pin!(self.arrival());
            loop {
                tokio::select! {
                    _ = &mut is_over => break,
                    Some(_) = guests.join_next() => {}
                    guest = &mut arrival => {
                        arrival.set(self.arrival());
                        let (desk, acceptor) = (Arc::clone(&self.desk), self.acceptor.clone());
                        guests.spawn(connection::attend(desk, acceptor, guest));
                    }
                }
            }
        }
        // Who comes now is refused at once instead of waiting for nothing.
        drop(self.socket);
        let all_gone = async { while guests.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(self.limits.farewell, all_gone).await;
    }

    /// The next connection, once there is a place for it.
    async fn arrival(&self) -> Guest {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            // Nobody closes it.
            return std::future::pending().await;
        };
        let mut is_reported = false;
        let (stream, peer) = loop {
            match self.socket.accept().await {
                Ok(accepted) => break accepted,
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    if !is_reported {
                        tracing::warn!(%error, "no connection can be accepted for now");
                        is_reported = true;
                    }
                    tokio::time::sleep(EXHAUSTION_PAUSE).await;
                }
            }
        };
        Guest { stream, peer, place, pass: self.entrance.admit().await }
    }
}

/// Whether an error is that of the connection that would have been accepted (accept(2), "Error
/// handling"), so that the next one can be taken at once.
fn concerns_one_connection(error: &std::io::Error) -> bool {
    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) {
        return true;
    }
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(
            Errno::ENETDOWN
                | Errno::EPROTO
                | Errno::ENOPROTOOPT
                | Errno::EHOSTDOWN
                | Errno::ENONET
                | Errno::EHOSTUNREACH
                | Errno::EOPNOTSUPP
                | Errno::ENETUNREACH
                | Errno::EPERM
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_of_something_pauses() {
        let check = |code: Errno, expected: bool| {
            let error = std::io::Error::from(code);
            assert_eq!(concerns_one_connection(&error), expected, "{code}");
        };
        check(Errno::ECONNABORTED, true);
        check(Errno::EINTR, true);
        check(Errno::EPROTO, true);
        check(Errno::EMFILE, false);
        check(Errno::ENFILE, false);
        check(Errno::ENOMEM, false);
        check(Errno::ENOBUFS, false);
    }

    #[test]
    fn only_a_missing_family_is_made_up_for() {
        let check = |code: Errno, expected: bool| {
            assert_eq!(has_no_such_family(&std::io::Error::from(code)), expected, "{code}");
        };
        check(Errno::EAFNOSUPPORT, true);
        check(Errno::EADDRNOTAVAIL, true);
        check(Errno::EADDRINUSE, false);
        check(Errno::EACCES, false);
    }
}
