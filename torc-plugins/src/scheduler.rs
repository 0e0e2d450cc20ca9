//! A plugin's scheduler, as torc's own is.

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use torc_core::traits::{
    AllocationHandle, AllocationRequest, AllocationState, Scheduler, SchedulerError, Shapes,
};
use torc_core::workflow::SCHEDULER_FIELDS;
use torc_plugin::abi::interface;

use crate::error::{CallError, Fault, PluginError};
use crate::instance::Instance;
use crate::shelf::Plugin;

/// How long a scheduler may take for an answer: programs of batch systems wait for theirs for minutes.
const ANSWERS_WITHIN: Duration = Duration::from_secs(180);

/// A source of allocations that a plugin is.
pub struct PluginScheduler {
    instance: Instance,
    plugin: Plugin,
    /// A breakdown is a refusal for good, and no reason to ask again.
    is_strict: bool,
}

impl PluginScheduler {
    /// Opens it with these settings.
    ///
    /// # Errors
    /// When the plugin has no scheduler, or does not open.
    pub fn open(plugin: &Plugin, settings: &Map<String, Value>) -> Result<Self, PluginError> {
        let instance = plugin.open(interface::SCHEDULER, settings, None)?;
        Ok(Self { instance, plugin: plugin.clone(), is_strict: false })
    }

    /// The same for whoever wants to know of each breakdown.
    pub(crate) fn strict(self) -> Self {
        Self { is_strict: true, ..self }
    }

    /// Refuses what the spec sets for allocations and the plugin does not take.
    async fn check(&self, request: &AllocationRequest) -> Result<(), SchedulerError> {
        let mut settings = request.settings.as_object().cloned().unwrap_or_default();
        settings.retain(|field, _| !SCHEDULER_FIELDS.contains(&&**field));
        let plugin = self.plugin.clone();
        let checked = tokio::task::spawn_blocking(move || plugin.check_settings(&settings)).await;
        match checked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(SchedulerError::Refused(error.to_string())),
            Err(error) => Err(SchedulerError::Unavailable(error.to_string())),
        }
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        method: &str,
        request: &impl Serialize,
    ) -> Result<A, SchedulerError> {
        let garbled = |error: serde_json::Error| self.garbled(method, error.to_string());
        let request = serde_json::to_vec(request).map_err(garbled)?;
        let answer = self.instance.call(method, request, ANSWERS_WITHIN).await;
        serde_json::from_slice(&answer.map_err(|error| self.refusal(&error))?).map_err(garbled)
    }

    fn garbled(&self, method: &str, words: String) -> SchedulerError {
        self.refusal(&self.instance.error(method, Fault::Garbled(words)))
    }

    /// What a failed call says of the request.
    fn refusal(&self, error: &CallError) -> SchedulerError {
        match &error.fault {
            Fault::Invalid(_) => SchedulerError::Refused(error.to_string()),
            Fault::Transient(_) => SchedulerError::Unavailable(error.to_string()),
            _ if self.is_strict => SchedulerError::Refused(error.to_string()),
            _ => SchedulerError::Unavailable(error.to_string()),
        }
    }
}

#[derive(Serialize)]
struct Submission<'a> {
    request: &'a AllocationRequest,
    key: &'a str,
}

#[async_trait]
impl Scheduler for PluginScheduler {
    async fn shapes(&self, request: &AllocationRequest) -> Result<Shapes, SchedulerError> {
        self.check(request).await?;
        self.ask("shapes", request).await
    }

    async fn submit(
        &self,
        request: &AllocationRequest,
        key: &str,
    ) -> Result<AllocationHandle, SchedulerError> {
        self.check(request).await?;
        self.ask("submit", &Submission { request, key }).await
    }

    async fn find(&self, key: &str) -> Result<Option<AllocationHandle>, SchedulerError> {
        self.ask("find", &serde_json::json!({ "key": key })).await
    }

    async fn observe(
        &self,
        allocations: &[AllocationHandle],
    ) -> Result<Vec<AllocationState>, SchedulerError> {
        let states: Vec<AllocationState> =
            self.ask("observe", &serde_json::json!({ "allocations": allocations })).await?;
        if states.len() != allocations.len() {
            let words = format!(
                "it was asked about {} allocations and told of {}",
                allocations.len(),
                states.len()
            );
            return Err(self.garbled("observe", words));
        }
        Ok(states)
    }

    async fn cancel(&self, allocation: &AllocationHandle) -> Result<(), SchedulerError> {
        self.ask("cancel", &serde_json::json!({ "allocation": allocation })).await
    }
}
