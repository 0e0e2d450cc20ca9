//! A port that a compute node is to connect to.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::link::{addresses, listener};

/// A port that a compute node is to connect to.
pub struct Probe {
    listener: TcpListener,
    address: SocketAddr,
}

impl Probe {
    /// Listens on a port as a server does; 0: any that is free.
    ///
    /// # Errors
    /// When the port is taken or must not be used.
    pub fn open(port: u16) -> std::io::Result<Self> {
        let listener = listener::bind(port)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it can be reached, as far as this host knows, each `host:port`.
    pub fn addresses(&self) -> Vec<String> {
        addresses::candidates(self.address)
    }

    /// Waits for somebody to connect, and says from where.
    pub async fn wait(&self, patience: Duration) -> Option<String> {
        let accepted = tokio::time::timeout(patience, self.listener.accept()).await.ok()?.ok()?;
        Some(accepted.1.ip().to_string())
    }
}
