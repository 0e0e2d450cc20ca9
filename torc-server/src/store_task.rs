//! The store behind a channel, so that the driver goes on deciding while a commit is under way.

use tokio::sync::{mpsc, oneshot};
use torc_core::engine::Event;
use torc_core::ids::WorkflowId;

use crate::store::{Store, StoreError};
use crate::stored::StoredView;

/// The way to the task that owns the store. The store is closed when the last one is gone.
#[derive(Clone)]
pub(crate) struct StoreTask {
    commands: mpsc::UnboundedSender<Command>,
}

/// Events that become durable together.
pub(crate) struct Commit {
    pub(crate) workflow: WorkflowId,
    pub(crate) sequence: i64,
    pub(crate) events: Vec<Event>,
}

enum Command {
    Append(Commit, oneshot::Sender<(Commit, Result<(), StoreError>)>),
    Load(WorkflowId, oneshot::Sender<Result<StoredView, StoreError>>),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

impl StoreTask {
    /// Hands a store over. `output_dir` is where torc keeps its files.
    pub(crate) fn spawn(store: Store, output_dir: String) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        tokio::spawn(serve(store, inbox, output_dir));
        Self { commands }
    }

    /// Begins to make events durable. The answer gives them back, so that they can be tried again.
    pub(crate) fn append(
        &self,
        commit: Commit,
    ) -> oneshot::Receiver<(Commit, Result<(), StoreError>)> {
        let (reply, done) = oneshot::channel();
        // If the task is gone, so is the reply's sender, which the receiver notices.
        let _ = self.commands.send(Command::Append(commit, reply));
        done
    }

    /// Reads a workflow; `None`: the task is gone.
    pub(crate) async fn load(&self, id: WorkflowId) -> Option<Result<StoredView, StoreError>> {
        let (reply, done) = oneshot::channel();
        let _ = self.commands.send(Command::Load(id, reply));
        done.await.ok()
    }

    /// Closes the store; the next process can have it.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        let (reply, done) = oneshot::channel();
        let _ = self.commands.send(Command::Close(reply));
        done.await.unwrap_or(Ok(()))
    }
}

async fn serve(
    mut store: Store,
    mut commands: mpsc::UnboundedReceiver<Command>,
    output_dir: String,
) {
    // Whoever asked may have gone away before the answer.
    while let Some(command) = commands.recv().await {
        match command {
            Command::Append(commit, reply) => {
                let result = store.append(commit.workflow, commit.sequence, &commit.events).await;
                let _ = reply.send((commit, result));
            }
            Command::Load(id, reply) => {
                let loaded = StoredView::load(&mut store, Some(id), &output_dir).await;
                let _ = reply.send(loaded);
            }
            Command::Close(reply) => {
                let _ = reply.send(store.close().await);
                return;
            }
        }
    }
}
