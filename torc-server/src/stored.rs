//! A workflow that nobody runs, read from the store.

use torc_core::engine::Engine;
use torc_core::ids::WorkflowId;
use torc_core::placer::WholeNodePlacer;
use torc_core::time::Timestamp;
use torc_core::traits::Placer;
use torc_core::workflow::Workflow;

use crate::store::{Origin, Store, StoreError, StoredWorkflow};
use crate::view::{NOTHING_HELD_BACK, NOTHING_OBSERVED, View};

/// A stored workflow, with the engine in the state that its log leads to.
pub(crate) struct StoredView {
    pub(crate) engine: Engine,
    pub(crate) origin: Origin,
    pub(crate) next_sequence: i64,
    pub(crate) output_dir: String,
}

impl StoredView {
    pub(crate) async fn load(
        store: &mut Store,
        id: Option<WorkflowId>,
        output_dir: &str,
    ) -> Result<Self, StoreError> {
        let StoredWorkflow { id, origin, workflow, events, next_sequence } = store.load(id).await?;
        let placer = placer_for(&workflow);
        let engine = Engine::replay(id, workflow, placer, events)
            .map_err(|refused| store.damaged(format!("workflow {id}: {refused}")))?;
        Ok(Self { engine, origin, next_sequence, output_dir: output_dir.to_owned() })
    }

    pub(crate) fn view(&self, now: Timestamp) -> View<'_> {
        let output_dir = &self.output_dir;
        View {
            engine: &self.engine,
            planned: &[],
            now,
            is_live: false,
            output_dir,
            submission_dir: &self.origin.submission_dir,
            observed: &NOTHING_OBSERVED,
            held_back: &NOTHING_HELD_BACK,
        }
    }
}

/// Torc's own placer for a workflow: it serves where nothing starts, and until the one takes over that a spec
/// names.
pub(crate) fn placer_for(workflow: &Workflow) -> Box<dyn Placer> {
    Box::new(WholeNodePlacer::of(&workflow.header))
}
