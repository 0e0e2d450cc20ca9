//! What a run finds of the one before, whose steps may have outlived it.
//!
//! Owns: that nothing of an earlier run is left when the next begins. Does not know: what the next does about it.

use std::time::Duration;

use tokio::time::Instant;
use torc_core::engine::Engine;
use torc_core::ids::StepId;
use torc_core::traits::{Executor, ExecutorError, StepSignal, StepState};

/// How long what still runs of a run before may take to end once it was killed.
const SURVIVORS_END_WITHIN: Duration = Duration::from_secs(30);

/// Between two questions whether it has.
const ASK_SURVIVORS_EVERY: Duration = Duration::from_millis(100);

/// What became of steps that were under way when torc died. What still runs is killed first: the nodes that it is on
/// are about to be given to others, and its job to run again.
pub(super) async fn found(
    engine: &Engine,
    executor: &dyn Executor,
) -> Result<Vec<StepState>, ExecutorError> {
    let steps = engine.running().map(|(job, attempt)| engine.step_id(job, attempt));
    let steps: Vec<StepId> = steps.collect();
    let until = Instant::now() + SURVIVORS_END_WITHIN;
    let mut killed = false;
    loop {
        let states = executor.reconcile(&steps).await?;
        let running = steps.iter().zip(&states).filter(|(_, state)| **state == StepState::Running);
        let running: Vec<StepId> = running.map(|(step, _)| *step).collect();
        let Some(first) = running.first() else { return Ok(states) };
        if Instant::now() >= until {
            let words = format!(
                "{} steps of the run before still run, though they were killed, such as {first}",
                running.len()
            );
            return Err(ExecutorError::NotStarted(words));
        }
        if !std::mem::replace(&mut killed, true) {
            for step in running {
                executor.signal(step, StepSignal::Kill).await?;
            }
        }
        tokio::time::sleep(ASK_SURVIVORS_EVERY).await;
    }
}
