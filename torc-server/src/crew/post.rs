//! Where the workers of the nodes come in.
//!
//! Owns: the socket, and the file that tells how it is reached, and what each node has. Does not know: what is said. Invariant: nobody is
//! heard who has not read that file, which only this user can.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use torc_core::resources::NodeInventory;
use torc_core::wire::crew::{FromNode, ToNode};

use super::service::Input;
use crate::link::addresses;
use crate::link::channel::{Channel, Sender, Settings};
use crate::link::identity::{Identity, IdentityError};
use crate::link::listener::{self, Limits, ListenError, Listener};
use crate::link::remote::Remote;
use crate::private_file::{self, BY_OTHERS, PrivateFileError};
use crate::serve::descriptors;

/// Where a node's worker asks for its connection.
pub(super) const ROUTE: &str = "/v1/node";

/// What the worker of a node has to know before it comes in.
#[derive(Debug, Serialize, Deserialize)]
pub struct Access {
    pub(super) remote: Remote,
    nodes: Vec<NodeInventory>,
}

impl Access {
    /// Reads the file that a crew has left for its workers.
    ///
    /// # Errors
    /// When it is not there, cannot be believed or makes no sense.
    pub fn read(file: &Path) -> Result<Self, AccessError> {
        let text = private_file::read(file, BY_OTHERS)?;
        let text = text.ok_or_else(|| AccessError::Missing(file.to_path_buf()))?;
        serde_json::from_slice(&text).map_err(|error| AccessError::Damaged {
            path: file.to_path_buf(),
            line: error.line(),
            column: error.column(),
        })
    }

    /// The nodes of the allocation, and what each was granted to have.
    pub fn nodes(&self) -> &[NodeInventory] {
        &self.nodes
    }

    /// What a node was granted to have.
    ///
    /// # Errors
    /// When the allocation has no such node.
    pub fn node(&self, name: &str) -> Result<&NodeInventory, AccessError> {
        let found = self.nodes.iter().find(|node| &*node.name == name);
        found.ok_or_else(|| AccessError::NoSuchNode(name.to_owned()))
    }
}

/// The worker of a node is not told how to come in.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Its file cannot be used or must not be believed.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// Its file is not there.
    #[error(
        "there is no {0}: the leader of the crew has ended, or this node does not share its folder"
    )]
    Missing(PathBuf),
    /// Its file makes no sense. Nothing of what it holds is told.
    #[error("{path} is damaged at line {line}, column {column}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// The allocation does not have this node.
    #[error("the allocation has no node {0}")]
    NoSuchNode(String),
}

/// Nobody could come in.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// There is no key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No port can be listened on.
    #[error("cannot listen for the workers of the nodes: {0}")]
    Port(std::io::Error),
    /// The same.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Nobody could be told how to come in.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The same.
    #[error("cannot replace {path}: {source}")]
    Leftover {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
}

/// The connection to a node's worker.
pub(super) type Link = Sender<ToNode>;

/// A place where the workers of the nodes come in. Dropping it lets nobody in any more.
pub struct Post {
    pub(super) listener: Listener,
    pub(super) file: PathBuf,
    /// For what else there is to tell.
    pub(super) tell: UnboundedSender<Input>,
    pub(super) inputs: UnboundedReceiver<Input>,
}

impl Post {
    /// Opens it, and writes into this folder, which the nodes share, how it is reached and what each has. Must be
    /// called within a runtime.
    ///
    /// # Errors
    /// When nobody could come in.
    pub fn open(folder: &Path, nodes: &[NodeInventory]) -> Result<Self, PostError> {
        descriptors::make_room_for(nodes.len());
        let identity = Identity::generate()?;
        let socket = listener::bind(0).map_err(PostError::Port)?;
        let address = socket.local_addr().map_err(PostError::Port)?;
        let remote = Remote {
            addresses: addresses::candidates(address),
            pin: identity.pin(),
            token: identity.token().clone(),
        };
        let (tell, inputs) = unbounded_channel();
        let (hear, links) = (tell.clone(), Arc::new(AtomicU64::new(0)));
        let attend = move |upgrade: WebSocketUpgrade| {
            let (hear, link) = (hear.clone(), links.fetch_add(1, Ordering::Relaxed));
            std::future::ready(Channel::accept(upgrade, Settings::default(), move |channel| {
                attend(channel, link, hear)
            }))
        };
        let router = Router::new().route(ROUTE, get(attend));
        let listener = Listener::start(socket, &identity, router, Limits::default())?;
        let file = folder.join("crew.json");
        write(&file, &Access { remote, nodes: nodes.to_vec() })?;
        Ok(Self { listener, file, tell, inputs })
    }

    /// The file that tells how it is reached.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

fn write(path: &Path, access: &Access) -> Result<(), PostError> {
    let leftover = |source| PostError::Leftover { path: path.to_path_buf(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(leftover(error)),
        _ => {}
    }
    let text = serde_json::to_vec(access).expect("text and numbers serialize");
    if !private_file::create(path, &text)? {
        return Err(leftover(std::io::ErrorKind::AlreadyExists.into()));
    }
    Ok(())
}

/// Takes what a node's worker says until its connection ends.
async fn attend(mut channel: Channel<FromNode, ToNode>, link: u64, hear: UnboundedSender<Input>) {
    // Once nobody listens any more, all has been said.
    match channel.receiver.next().await {
        Ok(FromNode::Hello { node, has }) => {
            let _ = hear.send(Input::Joined { node, has, link, sender: channel.sender });
        }
        Ok(FromNode::Start(start)) => {
            let _ = hear.send(Input::Help { start, link, sender: channel.sender });
        }
        _ => return channel.sender.close("a worker begins by saying which node it is on"),
    }
    let words = loop {
        match channel.receiver.next().await {
            Ok(FromNode::Report(event)) => drop(hear.send(Input::Reported(link, event))),
            Ok(FromNode::CommandEnded(number, code)) => {
                let _ = hear.send(Input::CommandEnded(number, code));
            }
            Ok(FromNode::Present(step)) => drop(hear.send(Input::Present(link, step))),
            Ok(FromNode::Hello { .. } | FromNode::Start(_)) => {}
            Err(ended) => break ended.to_string(),
        }
    };
    let _ = hear.send(Input::Left(link, words));
}
