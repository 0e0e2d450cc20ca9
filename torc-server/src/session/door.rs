//! How a run is reached: over its socket, and from the other hosts of the allocation that it is in by jobs that run
//! there and call torc.
//!
//! Owns the port of such a run. Does not know what is asked. Invariant: a run that has its own host only has no port.

use axum::Router;
use tokio::net::TcpListener;

use super::{RunError, RunOptions};
use crate::api::Api;
use crate::link::addresses;
use crate::link::identity::Identity;
use crate::link::listener::{self, Limits, Listener};
use crate::link::remote::Remote;
use crate::state_dir::{Owner, StateDir};

/// A way in that is not open yet. `None` in it: nobody comes from another host.
pub(super) struct Door(Option<(TcpListener, Identity)>);

impl Door {
    /// That of a run.
    pub(super) fn of(dir: &StateDir, options: &RunOptions) -> Result<Self, RunError> {
        if options.inside.is_none() || options.nodes.len() < 2 {
            return Ok(Self(None));
        }
        let identity = Identity::load_or_create(dir.path())?;
        let socket = listener::bind(0).map_err(RunError::Port)?;
        Ok(Self(Some((socket, identity))))
    }

    /// How this process can be found.
    pub(super) fn owner(&self) -> Result<Owner, RunError> {
        let owner = Api::owner()?;
        let Some((socket, identity)) = &self.0 else { return Ok(owner) };
        let address = socket.local_addr().map_err(RunError::Port)?;
        let remote = Remote {
            addresses: addresses::candidates(address),
            pin: identity.pin(),
            token: identity.token().clone(),
        };
        Ok(Owner { remote: Some(Box::new(remote)), ..owner })
    }

    /// Answers from now on, and leaves word about it.
    pub(super) fn open(
        self,
        dir: &StateDir,
        owner: &Owner,
        router: Router,
    ) -> Result<(Option<Listener>, Api), RunError> {
        let listener = match self.0 {
            None => None,
            Some((socket, identity)) => {
                Some(Listener::start(socket, &identity, router.clone(), Limits::default())?)
            }
        };
        Ok((listener, Api::listen(dir, owner, router)?))
    }
}
