//! What a compute node sees of a server's host: its files, its locks, its port, its time.
//!
//! This runs on the node, and tells what it found; it judges nothing.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use torc_core::time::Timestamp;

use super::file_system::{self, SecondOwner, second_owner};
use crate::clock::now;
use crate::state_dir::{StateDir, this_host};

/// How long one address may take.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

/// What a node saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSight {
    /// The node's name for itself.
    pub host: String,
    /// Its time at the end of its look.
    pub at: Timestamp,
    /// The folder of the trial.
    pub folder: FolderSight,
    /// The address by which it reached the host, each `host:port`; `None`: none leads there.
    pub reached: Option<String>,
    /// The addresses that led nowhere, and why.
    pub refused: Vec<(String, String)>,
}

/// How the folder of a trial looks from a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderSight {
    /// What is in it cannot be seen, in the operating system's words.
    Missing(String),
    /// It cannot be written.
    NotWritable(String),
    /// It can be used; and what came of taking the database over that the other host owns.
    Usable(SecondOwner),
}

/// Looks at the folder of a trial, and connects to all of these addresses, each `host:port`.
pub async fn look(folder: &StateDir, addresses: &[String]) -> NodeSight {
    let folder = match file_system::visit(folder.path()) {
        Err(sight) => sight,
        Ok(()) => FolderSight::Usable(second_owner(folder).await),
    };
    let tried = join_all(addresses.iter().map(|address| connect(address))).await;
    let (mut reached, mut refused) = (None, Vec::new());
    for (address, outcome) in addresses.iter().zip(tried) {
        match outcome {
            Ok(()) => {
                reached.get_or_insert_with(|| address.clone());
            }
            Err(reason) => refused.push((address.clone(), reason)),
        }
    }
    NodeSight { host: this_host(), at: now(), folder, reached, refused }
}

async fn connect(address: &str) -> Result<(), String> {
    match tokio::time::timeout(CONNECTED_WITHIN, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", CONNECTED_WITHIN.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Probe, Trial};
    use super::*;

    #[tokio::test]
    async fn what_is_there_is_seen() {
        let temp = tempfile::tempdir().unwrap();
        let trial = Trial::begin(&StateDir::at(temp.path()).unwrap()).await.unwrap();
        let probe = Probe::open(0).unwrap();
        let gone = {
            let other = Probe::open(0).unwrap();
            other.addresses().pop().unwrap()
        };
        let own = probe.addresses().pop().unwrap();
        let folder = StateDir::at(trial.path()).unwrap();
        let sight = look(&folder, &[gone.clone(), own.clone()]).await;
        assert_eq!(sight.reached, Some(own));
        assert_eq!(sight.refused.len(), 1);
        assert_eq!(sight.refused[0].0, gone);
        assert!(probe.wait(Duration::from_secs(30)).await.is_some());
        let elsewhere = StateDir::at(&temp.path().join("elsewhere")).unwrap();
        let sight = look(&elsewhere, &[]).await;
        assert!(matches!(sight.folder, FolderSight::Missing(_)), "{sight:?}");
        assert_eq!(sight.reached, None);
    }
}
