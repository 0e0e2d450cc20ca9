//! The store behind a channel, so that the driver goes on deciding while a commit is under way.

use tokio::sync::{mpsc, oneshot};
use torc_core::engine::Event;
use torc_core::ids::WorkflowId;
use torc_core::workflow::Workflow;

use crate::archive::Archive;
use crate::store::{Origin, Store, StoreError, StoredWorkflow};
use crate::stored::StoredView;

/// The way to the task that owns the store. The store is closed when the last one is gone.
#[derive(Clone)]
pub(crate) struct StoreTask {
    commands: mpsc::UnboundedSender<Command>,
    /// How often the database was taken over, this time included.
    pub(crate) generation: i64,
    /// A name that no other database has.
    pub(crate) key: std::sync::Arc<str>,
}

/// Events that become durable together.
pub(crate) struct Commit {
    pub(crate) workflow: WorkflowId,
    pub(crate) sequence: i64,
    pub(crate) events: Vec<Event>,
}

enum Command {
    Append(Commit, oneshot::Sender<(Commit, Result<(), StoreError>)>),
    Add(Box<(Workflow, Origin)>, oneshot::Sender<Result<WorkflowId, StoreError>>),
    Submitted(oneshot::Sender<Result<Vec<WorkflowId>, StoreError>>),
    All(oneshot::Sender<Result<Vec<WorkflowId>, StoreError>>),
    Whole(Option<WorkflowId>, oneshot::Sender<Result<StoredWorkflow, StoreError>>),
    Import(Box<Archive>, oneshot::Sender<Result<WorkflowId, StoreError>>),
    Delete(WorkflowId, oneshot::Sender<Result<(), StoreError>>),
    Load(Option<WorkflowId>, oneshot::Sender<Result<StoredView, StoreError>>),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

impl StoreTask {
    /// Hands a store over. `output_dir` is where torc keeps its files.
    pub(crate) fn spawn(store: Store, output_dir: String) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (generation, key) = (store.generation(), store.key().into());
        tokio::spawn(serve(store, inbox, output_dir));
        Self { commands, generation, key }
    }

    /// One whose commits a test answers.
    #[cfg(test)]
    pub(crate) fn pretended(
        mut answer: impl FnMut() -> Result<(), StoreError> + Send + 'static,
    ) -> Self {
        let (commands, mut inbox) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(command) = inbox.recv().await {
                if let Command::Append(commit, reply) = command {
                    let _ = reply.send((commit, answer()));
                }
            }
        });
        Self { commands, generation: 1, key: "key".into() }
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

    /// Reads a workflow, the latest when none is named; `None`: the task is gone.
    pub(crate) async fn load(
        &self,
        id: Option<WorkflowId>,
    ) -> Option<Result<StoredView, StoreError>> {
        let (reply, done) = oneshot::channel();
        let _ = self.commands.send(Command::Load(id, reply));
        done.await.ok()
    }

    /// Stores a new workflow; `None`: the task is gone.
    pub(crate) async fn add(
        &self,
        workflow: Workflow,
        origin: Origin,
    ) -> Option<Result<WorkflowId, StoreError>> {
        let (reply, done) = oneshot::channel();
        let _ = self.commands.send(Command::Add(Box::new((workflow, origin)), reply));
        done.await.ok()
    }

    /// The workflows that were submitted to a server; `None`: the task is gone.
    pub(crate) async fn submitted(&self) -> Option<Result<Vec<WorkflowId>, StoreError>> {
        let (reply, done) = oneshot::channel();
        let _ = self.commands.send(Command::Submitted(reply));
        done.await.ok()
    }

    /// All workflows; `None`: the task is gone.
    pub(crate) async fn all(&self) -> Option<Result<Vec<WorkflowId>, StoreError>> {
        let (reply, done) = oneshot::channel();
        let _ = self.commands.send(Command::All(reply));
        done.await.ok()
    }

    /// Reads a workflow with all that happened to it, the latest when none is named; `None`: the task is gone.
    pub(crate) async fn whole(
        &self,
        id: Option<WorkflowId>,
    ) -> Option<Result<StoredWorkflow, StoreError>> {
        let (reply, done) = oneshot::channel();
        let _ = self.commands.send(Command::Whole(id, reply));
        done.await.ok()
    }

    /// Takes a workflow in; `None`: the task is gone.
    pub(crate) async fn import(&self, archive: Archive) -> Option<Result<WorkflowId, StoreError>> {
        let (reply, done) = oneshot::channel();
        let _ = self.commands.send(Command::Import(Box::new(archive), reply));
        done.await.ok()
    }

    /// Deletes a workflow; `None`: the task is gone.
    pub(crate) async fn delete(&self, id: WorkflowId) -> Option<Result<(), StoreError>> {
        let (reply, done) = oneshot::channel();
        let _ = self.commands.send(Command::Delete(id, reply));
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
                let loaded = StoredView::load(&mut store, id, &output_dir).await;
                let _ = reply.send(loaded);
            }
            Command::Add(new, reply) => {
                let _ = reply.send(store.add_workflow(&new.0, &new.1).await);
            }
            Command::Submitted(reply) => {
                let _ = reply.send(store.submitted_ids().await);
            }
            Command::All(reply) => {
                let _ = reply.send(store.workflow_ids().await);
            }
            Command::Whole(id, reply) => {
                let _ = reply.send(store.load(id).await);
            }
            Command::Import(archive, reply) => {
                let Archive { workflow, events, .. } = &*archive;
                let _ =
                    reply.send(store.add_with_events(workflow, &archive.origin(), events).await);
            }
            Command::Delete(id, reply) => {
                let _ = reply.send(store.delete(id).await);
            }
            Command::Close(reply) => {
                let _ = reply.send(store.close().await);
                return;
            }
        }
    }
}
