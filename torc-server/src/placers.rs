//! Placers that are plugins: who opens one, and what follows where it cannot be opened.
//!
//! Owns: the moment at which a workflow gets the placer that it names. Does not know: where plugins lie, and
//! how they are called. Invariant: what only reads a workflow needs no plugin.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::runtime::{Handle, RuntimeFlavor};
use torc_core::engine::Engine;
use torc_core::placer::Policy;
use torc_core::traits::Placer;
use torc_core::workflow::Header;

/// Opens the placer that a plugin is: by its name, with its settings. Why not, in words that name it.
type Open =
    dyn Fn(&str, &Map<String, Value>) -> Result<Box<dyn Placer>, String> + Send + Sync + 'static;

/// Where placers come from that are not torc's own.
#[derive(Clone)]
pub struct Placers(Arc<Open>);

impl fmt::Debug for Placers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Placers")
    }
}

/// A workflow names a placer that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`execution_config.placer` is `{name}`, which is none of torc's own ({own}), and as a plugin it cannot be used: \
     {reason}",
    own = own()
)]
pub struct PlacerError {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

fn own() -> String {
    Policy::NAMES.map(|(name, _)| format!("`{name}`")).join(", ")
}

impl Placers {
    /// Those that this opens.
    pub fn new(
        open: impl Fn(&str, &Map<String, Value>) -> Result<Box<dyn Placer>, String>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self(Arc::new(open))
    }

    /// One, by its name; `open` makes a new one of it for each workflow, from its settings there (`plugins`).
    pub fn one(
        name: &'static str,
        open: impl Fn(&Map<String, Value>) -> Result<Box<dyn Placer>, String> + Send + Sync + 'static,
    ) -> Self {
        Self::new(move |wanted, settings| match wanted == name {
            true => open(settings),
            false => Err(format!("there is only `{name}` here")),
        })
    }

    /// None but torc's own.
    pub fn none() -> Self {
        Self::new(|_, _| Err("no plugins are looked for here".to_owned()))
    }

    /// Opens the placer of a workflow, if it names one that is not torc's own.
    ///
    /// # Errors
    /// When it is not there, or does not open.
    pub(crate) fn open(&self, header: &Header) -> Result<Option<Box<dyn Placer>>, PlacerError> {
        let Some(name) = header.execution.placer_plugin() else { return Ok(None) };
        let settings = header.settings_of(name);
        match may_block(|| (self.0)(name, &settings)) {
            Ok(placer) => Ok(Some(placer)),
            Err(reason) => Err(PlacerError { name: name.to_owned(), reason }),
        }
    }

    /// Whether the placer of a workflow can be opened here: most likely it can be where it is run, then.
    ///
    /// # Errors
    /// When it is not there, or does not open.
    pub fn try_out(&self, header: &Header) -> Result<(), PlacerError> {
        self.open(header).map(drop)
    }

    /// Has the placer that a workflow names decide from now on.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn entrust(&self, engine: &mut Engine) -> Result<(), PlacerError> {
        let placer = self.open(&engine.workflow().header)?;
        install(engine, placer);
        Ok(())
    }
}

/// Has a placer decide from now on that was opened for the workflow as it is defined now.
pub(crate) fn install(engine: &mut Engine, placer: Option<Box<dyn Placer>>) {
    let workflow = engine.workflow().clone();
    if let (Some(placer), Some(name)) = (placer, workflow.header.execution.placer_plugin()) {
        may_block(|| engine.entrust(name, placer));
    }
}

/// Does what may keep this thread waiting, without keeping what else is to be done from other threads.
pub(crate) fn may_block<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
