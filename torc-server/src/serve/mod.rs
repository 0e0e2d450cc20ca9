//! `torc serve`: the process that owns a state directory and drives its workflows, from its beginning
//! to its clean end.
//!
//! It listens over TLS for whoever has the token of its state directory, takes up what an earlier
//! server left, and ends when it is told to or has had nothing to do for a while. When it ends, or is
//! killed, what runs in allocations goes on, and the next server takes it back.

mod accounts;
pub(crate) mod admission;
mod beginning;
pub(crate) mod descriptors;
mod routes;
mod runs;
mod submission;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use torc_core::governor::Limits as GovernorLimits;

use crate::accountant::Accounts;
use crate::allocator::Allocator;
use crate::api::{Api, ApiError};
use crate::link::addresses;
use crate::link::identity::{Identity, IdentityError};
use crate::link::listener::{self, Limits, ListenError, Listener};
use crate::link::remote::Remote;
use crate::placers::Placers;
use crate::schedulers::Schedulers;
use crate::state_dir::{Owner, StateDir};
use crate::store::{Store, StoreError};
use crate::store_task::StoreTask;
pub(crate) use runs::Runs;
use runs::RunsParts;

/// What a server is started with.
pub struct ServeOptions {
    /// The state directory.
    pub dir: StateDir,
    /// Where allocations come from.
    pub schedulers: Arc<Schedulers>,
    /// Where what steps used comes from, if anywhere.
    pub accounts: Option<Accounts>,
    /// Where placers come from that are not torc's own.
    pub placers: Placers,
    /// How much the scheduler may be asked.
    pub limits: GovernorLimits,
    /// The program that a worker is, absolute.
    pub program: PathBuf,
    /// The TCP port; 0: any that is free.
    pub port: u16,
    /// How long to stay without work; `None`: for ever.
    pub idle_exit: Option<Duration>,
}

/// A server did not begin, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its secrets cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Nobody could reach it.
    #[error("cannot listen on port {port}: {source}")]
    Port {
        /// The port.
        port: u16,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// Nobody could reach it, again.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Nobody could reach it, once more.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The name of its program or state directory cannot be passed on.
    #[error("{0} is not valid UTF-8, which schedulers and environments need")]
    Name(PathBuf),
}

/// Why a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServeEnd {
    /// It was told to.
    Stopped,
    /// It had nothing to do.
    Idle,
}

/// A server that can be reached.
pub struct Server {
    runs: Arc<Runs>,
    listener: Listener,
    api: Api,
    dir: StateDir,
    idle_exit: Option<Duration>,
    stop: watch::Receiver<bool>,
    /// Keeps the wish to stop sayable.
    _stop_sender: watch::Sender<bool>,
}

impl Server {
    /// Takes a state directory over, and what an earlier server left in it.
    ///
    /// # Errors
    /// When another process owns it, or nobody could reach this one.
    pub async fn start(options: ServeOptions) -> Result<Self, ServeError> {
        let ServeOptions { dir, schedulers, accounts, placers, limits, program, port, idle_exit } =
            options;
        let listening = Limits::default();
        descriptors::make_room_for(listening.connections);
        let store = Store::own(&dir).await?;
        crate::known_dirs::note(&dir);
        dir.make_folders()?;
        let identity = Identity::load_or_create(dir.path())?;
        let socket = listener::bind(port).map_err(|source| ServeError::Port { port, source })?;
        let address = socket.local_addr().map_err(|source| ServeError::Port { port, source })?;
        let remote = Remote {
            addresses: addresses::candidates(address),
            pin: identity.pin(),
            token: identity.token().clone(),
        };
        let owner = Owner { remote: Some(Box::new(remote)), ..Api::owner()? };
        let program =
            program.into_os_string().into_string().map_err(|name| ServeError::Name(name.into()))?;
        let output_dir = dir.path().to_string_lossy().into_owned();
        let runs = Runs::new(RunsParts {
            store: StoreTask::spawn(store, output_dir),
            allocator: Allocator::spawn(schedulers.clone(), limits, dir.path().to_path_buf()),
            schedulers,
            placers,
            dir: dir.clone(),
            program,
            instance: owner.instance.clone(),
        });
        if let Some(accounts) = accounts {
            runs.keep_accounts(accounts);
        }
        runs.resume_all().await?;
        let (stop_sender, stop) = watch::channel(false);
        let router = routes::router(runs.clone(), stop_sender.clone());
        let listener = Listener::start(socket, &identity, router.clone(), listening)?;
        let api = Api::listen(&dir, &owner, router)?;
        tracing::info!(%address, dir = %dir.path().display(), "serving");
        Ok(Self { runs, listener, api, dir, idle_exit, stop, _stop_sender: stop_sender })
    }

    /// The workflows that it drives.
    pub(crate) fn runs(&self) -> Arc<Runs> {
        self.runs.clone()
    }

    /// Serves until it is told to end, by `stop` or over the network, or has had nothing to do for long
    /// enough. What runs in allocations goes on.
    ///
    /// # Errors
    /// When the last that is known could not be made durable.
    pub async fn serve(mut self, stop: impl Future<Output = ()>) -> Result<ServeEnd, ServeError> {
        tokio::pin!(stop);
        let mut idle_since = Instant::now();
        let end = loop {
            let changed = self.runs.changed();
            let is_idle = self.runs.is_idle();
            let idle_at = self.idle_exit.filter(|_| is_idle).map(|after| idle_since + after);
            let idle = async {
                match idle_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut stop => break ServeEnd::Stopped,
                _ = self.stop.wait_for(|stop| *stop) => break ServeEnd::Stopped,
                // Something may have begun at this very moment.
                () = idle => if self.runs.is_idle() { break ServeEnd::Idle },
                () = changed => idle_since = Instant::now(),
            }
        };
        tracing::info!(?end, "the server ends");
        self.dir.withdraw(self.runs.instance());
        self.api.close();
        self.listener.close().await;
        self.runs.detach().await?;
        Ok(end)
    }
}
