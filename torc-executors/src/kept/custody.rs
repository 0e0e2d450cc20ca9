//! A keeper and the task that watches it, from start to end.

use std::ops::Deref;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch as signal;

use super::connection::{Audience, Connection};
use super::error::StartError;
use super::hostfiles::Hostfiles;
use super::start::{Setup, start_keeper};
use super::watch::watch;
use crate::keeper::wire::Order;

/// A keeper that takes steps. Dropping it ends whatever still runs; so does the end of this program,
/// however it comes about.
pub(crate) struct Custody {
    connection: Arc<Connection>,
    ended: signal::Receiver<()>,
}

impl Custody {
    /// Starts a keeper, and a task on the current runtime that reports to `audience`.
    ///
    /// This process becomes a subreaper: processes that lose their parent below it become its
    /// children, so that it can end the jobs of a keeper that was killed.
    ///
    /// # Errors
    /// When the keeper cannot be started, or there is no runtime.
    pub(crate) fn start(
        setup: &Setup<'_>,
        hostfiles: Hostfiles,
        audience: Arc<dyn Audience>,
    ) -> Result<Self, StartError> {
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        if let Err(error) = nix::sys::prctl::set_child_subreaper(true) {
            tracing::warn!(%error, "jobs of a killed keeper would not all be found");
        }
        let started = start_keeper(setup)?;
        let stream = tokio::net::UnixStream::from_std(started.socket).map_err(|source| {
            let program = setup.keeper_program.unwrap_or_else(|| "".as_ref()).to_owned();
            StartError::Keeper { program, source }
        })?;
        let connection = Arc::new(Connection::new(stream, started.pid, hostfiles, audience));
        if let Some(mask) = setup.umask {
            connection.send(&Order::Umask(mask)).map_err(StartError::KeeperFailed)?;
        }
        let (ending, ended) = signal::channel(());
        let watched = Arc::clone(&connection);
        runtime.spawn(async move {
            watch(watched, started.process).await;
            // Its end is what tells.
            drop(ending);
        });
        Ok(Self { connection, ended })
    }

    /// Ends whatever still runs, and returns when no process of any job and no keeper is left. Steps
    /// that were running end as [`Cancelled`](torc_core::traits::Outcome::Cancelled); nothing is
    /// launched any more.
    pub(crate) async fn shutdown(&self) {
        self.connection.close();
        self.ended().await;
    }

    /// Returns when the keeper and all processes of its steps are gone, and all that has been told.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        // Nothing is ever sent: an error is the end of the task.
        while ended.changed().await.is_ok() {}
    }
}

impl Deref for Custody {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Custody {
    fn drop(&mut self) {
        self.connection.close();
    }
}
