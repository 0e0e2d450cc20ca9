//! A plugin's placer, as torc's own is.
//!
//! Owns: what it has not been told yet, and that it cannot go on. Does not know: who decides in its place.
//! Invariants: it is told of everything once and in order, with the next question; after the first answer
//! that is none it is not asked any more, since nobody knows what it still knows.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};
use torc_core::ids::JobId;
use torc_core::time::Timestamp;
use torc_core::traits::{Delta, Placer, Plan, Snapshot, Waiting};
use torc_plugin::abi::interface;

use crate::calls::{Events, Told};
use crate::error::{Fault, PluginError};
use crate::instance::Instance;
use crate::shelf::Plugin;

/// How long an answer may take. Nothing starts meanwhile.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// A placer that a plugin is.
pub struct PluginPlacer {
    instance: Instance,
    patience: Duration,
    books: RefCell<Books>,
    /// How its process went, if it did. Another would be started for the next call, and know nothing.
    gone: Arc<Mutex<Option<String>>>,
}

#[derive(Default)]
struct Books {
    /// What it has not been told yet.
    deltas: Vec<Delta>,
    /// Why it cannot go on.
    failure: Option<String>,
}

impl PluginPlacer {
    /// Opens it with these settings.
    ///
    /// # Errors
    /// When the plugin has no placer, or does not open.
    pub fn open(plugin: &Plugin, settings: &Map<String, Value>) -> Result<Self, PluginError> {
        let gone = Arc::new(Mutex::new(None));
        let seen = gone.clone();
        let events: Events = Arc::new(move |told| match told {
            Told::Gone(how) => {
                seen.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(how);
            }
            Told::Event(_) => tracing::debug!("a placer tells something by itself"),
        });
        let instance = plugin.open(interface::PLACER, settings, Some(events))?;
        Ok(Self { instance, patience: ANSWERS_WITHIN, books: RefCell::default(), gone })
    }

    #[cfg(test)]
    pub(crate) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Asks, unless it failed before. `None`: it has failed.
    fn ask<A: DeserializeOwned>(&self, method: &str, request: &impl Serialize) -> Option<A> {
        if self.books.borrow().failure.is_some() {
            return None;
        }
        let answer = self.call(method, request);
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fault = match (answer, gone) {
            (Err(fault), _) => fault,
            (Ok(_), Some(how)) => Fault::Gone(how),
            (Ok(answer), None) => return Some(answer),
        };
        self.books.borrow_mut().failure = Some(format!("{method}: {fault}"));
        None
    }

    fn call<A: DeserializeOwned>(
        &self,
        method: &str,
        request: &impl Serialize,
    ) -> Result<A, Fault> {
        let garbled = |error: serde_json::Error| Fault::Garbled(error.to_string());
        let request = serde_json::to_vec(request).map_err(garbled)?;
        let answer = self.instance.call_blocking(method, request, self.patience);
        serde_json::from_slice(&answer.map_err(|error| error.fault)?).map_err(garbled)
    }

    /// Why it cannot go on, if it cannot.
    pub(crate) fn failure(&self) -> Option<String> {
        self.books.borrow().failure.clone()
    }

    /// What it has not been told yet; afterwards it has.
    fn news(&self) -> Vec<Delta> {
        std::mem::take(&mut self.books.borrow_mut().deltas)
    }
}

impl Drop for PluginPlacer {
    /// Waits for its end: of a program that hangs nothing would be left otherwise to end it.
    fn drop(&mut self) {
        self.instance.close(Duration::ZERO);
    }
}

#[derive(Serialize)]
struct PlanRequest {
    deltas: Vec<Delta>,
    now: Timestamp,
    limit: u64,
}

#[derive(Serialize)]
struct ExplainRequest {
    deltas: Vec<Delta>,
    job: JobId,
    now: Timestamp,
}

#[derive(Serialize)]
struct RebuildRequest<'a> {
    snapshot: &'a Snapshot,
}

impl Placer for PluginPlacer {
    fn apply(&mut self, deltas: &[Delta]) {
        self.books.get_mut().deltas.extend_from_slice(deltas);
    }

    fn plan(&mut self, now: Timestamp, limit: usize) -> Plan {
        // No workflow has more jobs, and not every reader of JSON takes more.
        let limit = u64::from(u32::try_from(limit).unwrap_or(u32::MAX));
        let request = PlanRequest { deltas: self.news(), now, limit };
        self.ask("plan", &request).unwrap_or_else(|| Plan {
            failure: self.books.get_mut().failure.clone(),
            ..Plan::default()
        })
    }

    fn explain(&self, job: JobId, now: Timestamp) -> Option<Waiting> {
        self.ask("explain", &ExplainRequest { deltas: self.news(), job, now })?
    }

    fn rebuild(&mut self, snapshot: &Snapshot) {
        self.books.get_mut().deltas.clear();
        let _: Option<IgnoredAny> = self.ask("rebuild", &RebuildRequest { snapshot });
    }
}
