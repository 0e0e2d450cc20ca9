//! Runs a spec with an executor of its own: a bare process for each step. `own_executor SPEC STATE_DIR`

use std::{collections::BTreeMap, sync::Arc, sync::Mutex};

use tokio::{process::Command, task::AbortHandle};
use torc_core::{ids::StepId, resources::NodeInventory, traits::*};
use torc_executors::{clock::now, host};
use torc_server::{embed::Embedded, session::Launching};

#[derive(Clone)]
struct Bare(Vec<NodeInventory>, Arc<dyn StepEvents>, Arc<Mutex<BTreeMap<StepId, AbortHandle>>>);

impl Bare {
    /// Tells the end of a step, once: it is told by whoever takes it out of the map.
    fn end(&self, step: StepId, outcome: Outcome) -> Option<AbortHandle> {
        let task = self.2.lock().expect("nobody panicked").remove(&step)?;
        self.1.emit(StepEvent::Ended { step, at: now(), outcome, usage: Usage::default() });
        Some(task)
    }
}

#[async_trait::async_trait]
impl Executor for Bare {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        Ok(self.0.clone())
    }

    async fn launch(&self, step: Step) -> Result<(), ExecutorError> {
        let (me, id, mut command) = (self.clone(), step.id, Command::new(&step.argv[0]));
        command.args(&step.argv[1..]).envs(&step.env).current_dir(&*step.working_dir);
        let mut running = self.2.lock().expect("nobody panicked");
        let task = tokio::spawn(async move {
            let status = command.kill_on_drop(true).status().await;
            me.end(id, Outcome::Exited { code: status.ok().and_then(|s| s.code()).unwrap_or(127) })
        });
        running.insert(id, task.abort_handle());
        Ok(())
    }

    async fn signal(&self, step: StepId, _: StepSignal) -> Result<(), ExecutorError> {
        self.end(step, Outcome::Cancelled).inspect(AbortHandle::abort);
        Ok(())
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        Ok(vec![StepState::Unknown; steps.len()])
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().collect();
    let torc = Embedded::open(words[1].as_ref(), words[2].as_ref())?;
    let nodes = vec![host::inventory()?];
    let bare = |events| Launching::by(Arc::new(Bare(nodes.clone(), events, Arc::default())));
    let ended = torc.run(nodes.clone(), async |start| Ok(bare(start.events))).await?;
    (ended.failed.is_empty()).then_some(()).ok_or_else(|| "some jobs failed".into())
}
