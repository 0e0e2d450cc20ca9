//! A plugin's executor, as torc's own are.
//!
//! Owns: what follows where a plugin does not answer as it must, and how it comes to its end. Does not know: what of
//! the plugin's words is passed on ([`Desk`]). Invariants: what a plugin may have that does not answer a call is closed
//! with it, so that no step runs twice at once; a method that it does not know is an error, and never taken for done.

mod desk;
mod nodes;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use torc_core::ids::StepId;
use torc_core::resources::NodeInventory;
use torc_core::time::Timestamp;
use torc_core::traits::{
    Executor, ExecutorError, LaunchStage, Outcome, Step, StepEvents, StepSignal, StepState,
};
use torc_plugin::abi::interface;

use crate::error::{CallError, Fault, PluginError};
use crate::instance::Instance;
use crate::shelf::Plugin;
use desk::{Desk, Entry};

/// How long an executor may take for an answer: it hands over, and does not wait for steps.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// How long after the last lead of what was asked to end its ends may be told.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// Tells the time.
pub type Clock = fn() -> Timestamp;

/// An executor that a plugin is.
pub struct PluginExecutor {
    instance: Instance,
    desk: Arc<Desk>,
    patience: Duration,
}

impl PluginExecutor {
    /// Opens it with these settings; it reports to `events`.
    ///
    /// # Errors
    /// When the plugin has no executor, or does not open.
    pub fn open(
        plugin: &Plugin,
        settings: &Map<String, Value>,
        events: Arc<dyn StepEvents>,
        clock: Clock,
    ) -> Result<Self, PluginError> {
        let desk = Arc::new(Desk::new(plugin.about().name.clone(), events, clock));
        // The instance would otherwise keep what keeps it.
        let weak: Weak<Desk> = Arc::downgrade(&desk);
        let told = Arc::new(move |told| {
            if let Some(desk) = weak.upgrade() {
                desk.hear(told);
            }
        });
        let instance = plugin.open(interface::EXECUTOR, settings, Some(told))?;
        Ok(Self { instance, desk, patience: ANSWERS_WITHIN })
    }

    /// Ends what still runs, which may go on for so long. What has not been told of then is lost.
    pub fn shutdown(&self, grace: Duration) {
        self.desk.shut();
        self.instance.close(grace);
        self.desk.close();
    }

    /// Lets what runs come to an end of its own: it is asked to end as by [`StepSignal::Cancel`]. What is launched from
    /// now on ends as [`Outcome::Cancelled`] at once.
    pub async fn wind_up(&self) {
        let (steps, lead) = self.desk.shut();
        for step in steps {
            // An error means that it is gone, and all steps with it.
            let _ = self.signal(step, StepSignal::Cancel).await;
        }
        if tokio::time::timeout(lead + ENDS_WITHIN, self.desk.emptied()).await.is_err() {
            let plugin = &**self.instance.plugin();
            tracing::error!(plugin, "steps that were asked to end have not; it is closed");
        }
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        method: &str,
        request: &impl Serialize,
        note: impl FnOnce(bool) + Send + 'static,
    ) -> Result<A, CallError> {
        let garbled = |error: serde_json::Error| {
            self.instance.error(method, Fault::Garbled(error.to_string()))
        };
        let request = serde_json::to_vec(request).map_err(garbled)?;
        let answer = self.instance.call_noting(method, request, self.patience, note).await;
        let answer = answer.and_then(|answer| serde_json::from_slice(&answer).map_err(garbled));
        if let Err(error) = &answer
            && matches!(error.fault, Fault::Late(_) | Fault::Garbled(_))
        {
            self.instance.abandon(&error.to_string()).await;
        }
        answer
    }
}

impl Drop for PluginExecutor {
    /// Waits for its end: of a program that hangs nothing would be left otherwise to end it.
    fn drop(&mut self) {
        self.instance.close(Duration::ZERO);
    }
}

fn gone(error: impl ToString) -> ExecutorError {
    ExecutorError::Gone(error.to_string())
}

#[async_trait]
impl Executor for PluginExecutor {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            nodes: Vec<NodeInventory>,
        }
        let answer = self.ask::<Answer>("inventory", &Value::Null, |_| {}).await;
        let nodes = answer.map_err(|error| ExecutorError::Inventory(error.to_string()))?.nodes;
        let odd = |words| self.instance.error("inventory", Fault::Garbled(words)).to_string();
        nodes::check(&nodes).map_err(|words| ExecutorError::Inventory(odd(words)))?;
        Ok(nodes)
    }

    async fn launch(&self, step: Step) -> Result<(), ExecutorError> {
        let id = step.id;
        match self.desk.enter(&step)? {
            Entry::New => {}
            Entry::Known => {
                tracing::warn!(step = %id, "a step that runs was launched again; ignored");
                return Ok(());
            }
            Entry::TooLate => {
                self.desk.end(id, Outcome::Cancelled);
                return Ok(());
            }
        }
        let desk = Arc::clone(&self.desk);
        let note = move |is_taken| {
            if is_taken {
                desk.take_over(id);
            }
        };
        let answer = self.ask::<()>("launch", &json!({ "step": step }), note).await;
        let Err(error) = answer else { return Ok(()) };
        let outcome = match &error.fault {
            Fault::Invalid(_) | Fault::Transient(_) | Fault::Unsupported => {
                Outcome::LaunchFailed { stage: LaunchStage::Prepare, reason: error.to_string() }
            }
            // It may run, or have run. Another process of the plugin is started for the next step.
            Fault::Gone(_) | Fault::Panicked(_) | Fault::Late(_) | Fault::Garbled(_) => {
                Outcome::Lost
            }
            Fault::Fatal(_) => {
                self.desk.leave(id);
                return Err(gone(error));
            }
        };
        if self.desk.leave(id) {
            tracing::warn!(step = %id, %error, "a step could not be launched");
            self.desk.end(id, outcome);
        }
        Ok(())
    }

    async fn signal(&self, step: StepId, signal: StepSignal) -> Result<(), ExecutorError> {
        let request = json!({ "step": step, "signal": signal });
        match self.ask::<()>("signal", &request, |_| {}).await {
            // A step that cannot be ended would run on, and nobody would know.
            Err(error) if matches!(error.fault, Fault::Fatal(_) | Fault::Unsupported) => {
                Err(gone(error))
            }
            Err(error) => {
                tracing::warn!(%step, %error, "a step could not be signalled");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        let request = json!({ "steps": steps });
        let states = self.ask::<Vec<StepState>>("reconcile", &request, |_| {}).await;
        let states = states.map_err(gone)?;
        if states.len() != steps.len() {
            let words =
                format!("it was asked about {} steps and told of {}", steps.len(), states.len());
            return Err(gone(self.instance.error("reconcile", Fault::Garbled(words))));
        }
        let running = steps.iter().zip(&states).filter(|(_, state)| **state == StepState::Running);
        self.desk.take_back(running.map(|(step, _)| *step));
        Ok(states)
    }
}
