//! Reaching the server that the access file names now, up to where it has taken the worker in.

use std::time::Duration;

use hyper::HeaderMap;
use torc_core::wire::link::{Hello, ToServer, ToWorker};

use crate::link::channel::{Channel, Ended, Sender, Settings};
use crate::link::client::Client;
use crate::state_dir::{Owner, StateDir};

/// How long all of it may take. A server that stands still, on a host that dies then, never answers.
const WITHIN: Duration = Duration::from_secs(60);

/// A connection to the server.
pub(super) type Link = Channel<ToWorker, ToServer>;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Unreached {
    /// The server is there, knows what it speaks of, and will not have this worker.
    Refused(String),
    /// Nobody answered as a server does, or one that cannot tell: it closed the connection. Another may.
    Unknown(String),
}

/// Connects to the server that the access file names now, and is taken in. The connection, and the
/// server's generation.
pub(super) async fn reach(dir: StateDir, hello: Hello) -> Result<(Link, i64), Unreached> {
    tokio::time::timeout(WITHIN, enter(dir, hello)).await.unwrap_or_else(|_| {
        let seconds = WITHIN.as_secs();
        Err(Unreached::Unknown(format!(
            "the server did not take this worker in within {seconds} s"
        )))
    })
}

async fn enter(dir: StateDir, hello: Hello) -> Result<(Link, i64), Unreached> {
    let unknown = |reason: String| Unreached::Unknown(reason);
    let owner = Owner::read(dir.path())
        .ok_or_else(|| unknown(format!("no server owns {}", dir.path().display())))?;
    let remote = owner.remote.clone().ok_or_else(|| unknown(format!("{owner} has no port")))?;
    let client = Client::connect(&remote).await.map_err(|error| unknown(error.to_string()))?;
    let settings = Settings::default();
    let socket = client.websocket("/v1/worker", HeaderMap::new(), &settings).await;
    let socket = socket.map_err(|error| unknown(error.to_string()))?;
    let mut channel = Link::over(socket, settings);
    say(&channel.sender, &ToServer::Hello(Box::new(hello)));
    match channel.receiver.next().await {
        Ok(ToWorker::Welcome { generation }) => Ok((channel, generation)),
        Ok(ToWorker::Refused { reason }) => Err(Unreached::Refused(reason)),
        Ok(_) => Err(unknown("it spoke out of turn".to_owned())),
        Err(ended) => Err(unknown(Ended::to_string(&ended))),
    }
}

/// Says something, unless the connection has ended: that is noticed where it is read.
pub(super) fn say(sender: &Sender<ToServer>, message: &ToServer) {
    if let Err(error) = sender.send(message) {
        tracing::debug!(%error, "a report will be made after the next connection");
    }
}
