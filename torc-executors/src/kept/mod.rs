//! What executors share that hand their processes to a keeper: the connection to it and the books of
//! what it was given, starting it, watching it, and cleaning up after it; hostfiles.
//!
//! It knows steps by their names and what a keeper reports of them; it knows no nodes and no launcher.
//! Every step that was taken over is reported as ended exactly once, whatever becomes of the keeper.

mod aftermath;
mod connection;
mod custody;
mod environment;
mod error;
mod hostfiles;
mod memory;
mod start;
mod watch;

pub(crate) use connection::{Audience, Entry, Memory};
pub(crate) use custody::Custody;
pub(crate) use environment::add_nodes;
pub use error::StartError;
pub(crate) use hostfiles::Hostfiles;
pub(crate) use start::Setup;
