//! How a server is reached from another process: what stands in the access file about it.

use serde::{Deserialize, Serialize};

use super::secret::{Pin, Token};

/// Where a server listens, how it is known, and what it wants to hear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// Where it may be reached, each `host:port`. Not all need be reachable from everywhere, and one
    /// may be somebody else's elsewhere: the pin tells.
    pub addresses: Vec<String>,
    /// Its key.
    pub pin: Pin,
    /// What every request must carry.
    pub token: Token,
}
