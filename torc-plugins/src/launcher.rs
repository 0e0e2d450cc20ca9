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

impl Launcher for PluginLauncher {
    fn name(&self) -> &str {
        self.instance.plugin()
    }

    fn plan(&self, step: &Step, folder: &str) -> Result<LaunchPlan, LauncherError> {
        let failed = |reason: String| LauncherError::Unsupported {
            launcher: self.name().to_owned(),
            reason,
        };
        let request = serde_json::to_vec(&Request { step, folder })
            .map_err(|error| failed(error.to_string()))?;
        let answer = self.instance.call_blocking("plan", request, PLANS_WITHIN);
        let answer = answer.map_err(|error| failed(error.fault.to_string()))?;
        let plan: LaunchPlan = serde_json::from_slice(&answer)
            .map_err(|error| failed(Fault::Garbled(error.to_string()).to_string()))?;
        if plan.argv.is_empty() {
            return Err(failed("its plan has no program".to_owned()));
        }
        Ok(plan)
    }
}
