//! A plugin's executor, as torc's own are.
//!
//! Owns: which steps the plugin has. Invariants: of each step that was handed over exactly one end is told, whatever
//! the plugin tells; when its process is gone, what it had is lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use torc_core::ids::StepId;
use torc_core::resources::NodeInventory;
use torc_core::time::Timestamp;
use torc_core::traits::{
    Executor, ExecutorError, LaunchStage, Outcome, Step, StepEvent, StepEvents, StepSignal,
    StepState, Usage,
};
use torc_plugin::abi::interface;

use crate::calls::Told;
use crate::error::{CallError, Fault, PluginError};
use crate::instance::Instance;
use crate::shelf::Plugin;

/// How long an executor may take for an answer: it hands over, and does not wait for steps.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// Tells the time.
pub type Clock = fn() -> Timestamp;

/// An executor that a plugin is.
pub struct PluginExecutor {
    instance: Instance,
    desk: Arc<Desk>,
}

/// What the plugin tells goes over it.
struct Desk {
    plugin: String,
    events: Arc<dyn StepEvents>,
    clock: Clock,
    /// The steps that were handed over, and whether it was told that they started.
    steps: Mutex<BTreeMap<StepId, bool>>,
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
        let plugin_name = plugin.about().name.clone();
        let desk = Arc::new(Desk { plugin: plugin_name, events, clock, steps: Mutex::default() });
        // The instance would otherwise keep what keeps it.
        let weak: Weak<Desk> = Arc::downgrade(&desk);
        let told = Arc::new(move |told| {
            if let Some(desk) = weak.upgrade() {
                desk.hear(told);
            }
        });
        let instance = plugin.open(interface::EXECUTOR, settings, Some(told))?;
        Ok(Self { instance, desk })
    }

    /// Ends what still runs, which may go on for so long. What has not been told of then is lost.
    pub fn shutdown(&self, grace: Duration) {
        self.instance.close(grace);
        self.desk.lose_all("it was closed");
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        method: &str,
        request: &impl Serialize,
    ) -> Result<A, CallError> {
        let garbled = |error: serde_json::Error| {
            self.instance.error(method, Fault::Garbled(error.to_string()))
        };
        let request = serde_json::to_vec(request).map_err(garbled)?;
        let answer = self.instance.call(method, request, ANSWERS_WITHIN).await;
        let answer = answer.inspect_err(|error| {
            // The instance was closed, and the next call opens another.
            if let Fault::Panicked(_) = error.fault {
                self.desk.lose_all("the plugin panicked");
            }
        })?;
        serde_json::from_slice(&answer).map_err(garbled)
    }
}

impl Desk {
    fn steps(&self) -> MutexGuard<'_, BTreeMap<StepId, bool>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, told: Told) {
        let event = match told {
            Told::Gone(how) => return self.lose_all(&how),
            Told::Event(event) => event,
        };
        let plugin = &*self.plugin;
        match serde_json::from_slice::<StepEvent>(&event) {
            Ok(event) => self.pass_on(event),
            Err(error) => {
                let event = String::from_utf8_lossy(&event[..event.len().min(200)]).into_owned();
                tracing::error!(plugin, %error, event, "an event cannot be understood");
            }
        }
    }

    /// Passes an event on, unless it is about a step that the plugin does not have.
    fn pass_on(&self, event: StepEvent) {
        let is_due = match &event {
            StepEvent::Started { step, .. } => {
                self.steps().get_mut(step).is_some_and(|told| !std::mem::replace(told, true))
            }
            StepEvent::Ended { step, .. } => self.steps().remove(step).is_some(),
            StepEvent::NodeChanged { .. } => true,
        };
        if is_due {
            self.events.emit(event);
        } else {
            let plugin = &*self.plugin;
            tracing::warn!(plugin, ?event, "it was told before, or of a step that is not there");
        }
    }

    fn lose_all(&self, how: &str) {
        let steps = std::mem::take(&mut *self.steps());
        let plugin = &*self.plugin;
        for step in steps.into_keys() {
            tracing::warn!(plugin, %step, how, "the step is lost with its executor");
            self.end(step, Outcome::Lost);
        }
    }

    fn end(&self, step: StepId, outcome: Outcome) {
        let at = (self.clock)();
        self.events.emit(StepEvent::Ended { step, at, outcome, usage: Usage::default() });
    }
}

fn gone(error: &CallError) -> ExecutorError {
    ExecutorError::Gone(error.to_string())
}

#[async_trait]
impl Executor for PluginExecutor {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            nodes: Vec<NodeInventory>,
        }
        let answer: Result<Answer, _> = self.ask("inventory", &Value::Null).await;
        answer
            .map(|answer| answer.nodes)
            .map_err(|error| ExecutorError::Inventory(error.to_string()))
    }

    async fn launch(&self, step: Step) -> Result<(), ExecutorError> {
        let id = step.id;
        self.desk.steps().insert(id, false);
        let answer: Result<(), CallError> = self.ask("launch", &json!({ "step": step })).await;
        let Err(error) = answer else { return Ok(()) };
        let was_there = self.desk.steps().remove(&id).is_some();
        let outcome = match &error.fault {
            Fault::Invalid(_) | Fault::Transient(_) | Fault::Unsupported => {
                Outcome::LaunchFailed { stage: LaunchStage::Prepare, reason: error.to_string() }
            }
            // It may run, or have run. Another process of the plugin is started for the next step.
            Fault::Gone(_) | Fault::Panicked(_) | Fault::Late(_) | Fault::Garbled(_) => {
                Outcome::Lost
            }
            Fault::Fatal(_) => return Err(gone(&error)),
        };
        if was_there {
            tracing::warn!(step = %id, %error, "a step could not be launched");
            self.desk.end(id, outcome);
        }
        Ok(())
    }

    async fn signal(&self, step: StepId, signal: StepSignal) -> Result<(), ExecutorError> {
        let request = json!({ "step": step, "signal": signal });
        match self.ask::<()>("signal", &request).await {
            Err(error) if matches!(error.fault, Fault::Fatal(_)) => Err(gone(&error)),
            Err(error) => {
                tracing::warn!(%step, %error, "a step could not be signalled");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        let states: Result<Vec<StepState>, _> =
            self.ask("reconcile", &json!({ "steps": steps })).await;
        let states = states.map_err(|error| gone(&error))?;
        if states.len() != steps.len() {
            let words =
                format!("it was asked about {} steps and told of {}", steps.len(), states.len());
            return Err(gone(&self.instance.error("reconcile", Fault::Garbled(words))));
        }
        let running = steps.iter().zip(&states).filter(|(_, state)| **state == StepState::Running);
        self.desk.steps().extend(running.map(|(step, _)| (*step, true)));
        Ok(states)
    }
}
