//! A launcher that does little: what a call across the boundary costs is measured with it.

use torc_plugin::messages::{LaunchPlan, Step};
use torc_plugin::{Failure, Host, Launcher, Settings, torc_plugin};

/// Starts every step through `nice`.
struct Nice;

impl Launcher for Nice {
    fn open(_: Settings, _: Host) -> Result<Self, Failure> {
        Ok(Self)
    }

    fn plan(&mut self, step: &Step, _: &str) -> Result<LaunchPlan, Failure> {
        let nice = ["nice", "-n", "10"].map(str::to_owned);
        let argv = nice.into_iter().chain(step.argv.iter().cloned()).collect();
        Ok(LaunchPlan { argv, ..LaunchPlan::default() })
    }
}

torc_plugin! {
    name: "nice",
    version: "0.1.0",
    info: r#"{"description": "starts every step through nice"}"#,
    interfaces: { launcher: Nice }
}
