//! Finding the way to a server: all its addresses are tried, and the first that leads to the pinned key
//! is taken.
//!
//! Knows no request. Invariant: nothing secret is sent on a way before it has proven to lead to the
//! right server.

use std::fmt;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::tls;

/// How long one address may take: to find it, to connect, and for the handshake.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for an address before the next is tried as well. Within a cluster a handshake takes
/// some milliseconds.
const STAGGER: Duration = Duration::from_millis(50);

/// A connection of any kind.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Why an address did not lead to the server.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// There is no connection.
    #[error("{0}")]
    NotConnected(std::io::Error),
    /// It took too long.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// A server is there, but another one.
    #[error("another server listens there; its key is not the one that is expected")]
    OtherKey,
    /// Who is there does not speak TLS as torc does.
    #[error("no secured connection: {0}")]
    NoTls(std::io::Error),
}

/// An address that was tried in vain.
#[derive(Debug)]
pub struct Attempt {
    /// The address.
    pub address: String,
    /// What came of it.
    pub error: DialError,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.error)
    }
}

/// A way to the server by one of these addresses, and which it is. They are tried in their order, one
/// shortly after the other.
pub(super) async fn any(
    addresses: &[String],
    connector: &TlsConnector,
) -> Result<(usize, Box<dyn Wire>), Vec<Attempt>> {
    let tries = addresses.iter().zip(0_u32..).map(|(address, place)| async move {
        sleep(STAGGER * place).await;
        let outcome = timeout(PATIENCE, one(address, connector)).await;
        (place as usize, outcome.unwrap_or(Err(DialError::Silent)))
    });
    let mut tries: FuturesUnordered<_> = tries.collect();
    let mut failed = Vec::new();
    while let Some((place, outcome)) = tries.next().await {
        match outcome {
            Ok(wire) => return Ok((place, wire)),
            Err(error) => failed.push(Attempt { address: addresses[place].clone(), error }),
        }
    }
    Err(failed)
}

async fn one(address: &str, connector: &TlsConnector) -> Result<Box<dyn Wire>, DialError> {
    let stream = TcpStream::connect(address).await.map_err(DialError::NotConnected)?;
    stream.set_nodelay(true).map_err(DialError::NotConnected)?;
    match connector.connect(tls::server_name(), stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) if tls::is_other_key(&error) => Err(DialError::OtherKey),
        Err(error) => Err(DialError::NoTls(error)),
    }
}
