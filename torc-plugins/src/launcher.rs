//! A plugin's launcher, as torc's own are.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use torc_core::traits::{LaunchPlan, Launcher, LauncherError, Step};
use torc_plugin::abi::interface;

use crate::error::{Fault, PluginError};
use crate::instance::Instance;
use crate::shelf::Plugin;

/// How long a plan may take.
const PLANS_WITHIN: Duration = Duration::from_secs(10);

/// A launcher that a plugin is.
pub struct PluginLauncher {
    instance: Instance,
}

impl PluginLauncher {
    /// Opens it with these settings.
    ///
    /// # Errors
    /// When the plugin has no launcher, or does not open.
    pub fn open(plugin: &Plugin, settings: &Map<String, Value>) -> Result<Self, PluginError> {
        Ok(Self { instance: plugin.open(interface::LAUNCHER, settings, None)? })
    }
}

#[derive(Serialize)]
struct Request<'a> {
    step: &'a Step,
    folder: &'a str,
}

impl PluginLauncher {
    /// A plan, or why there is none.
    pub(crate) fn plan_or_fault(&self, step: &Step, folder: &str) -> Result<LaunchPlan, Fault> {
        let garbled = |error: serde_json::Error| Fault::Garbled(error.to_string());
        let request = serde_json::to_vec(&Request { step, folder }).map_err(garbled)?;
        let answer = self.instance.call_blocking("plan", request, PLANS_WITHIN);
        let plan: LaunchPlan =
            serde_json::from_slice(&answer.map_err(|error| error.fault)?).map_err(garbled)?;
        if plan.argv.is_empty() {
            return Err(Fault::Garbled("its plan has no program".to_owned()));
        }
        Ok(plan)
    }

    /// What a fault means for the step.
    pub(crate) fn refusal(&self, fault: &Fault) -> LauncherError {
        LauncherError::Unsupported { launcher: self.name().to_owned(), reason: fault.to_string() }
    }
}

impl Launcher for PluginLauncher {
    fn name(&self) -> &str {
        self.instance.plugin()
    }

    fn plan(&self, step: &Step, folder: &str) -> Result<LaunchPlan, LauncherError> {
        self.plan_or_fault(step, folder).map_err(|fault| self.refusal(&fault))
    }
}
