//! Runs a spec on this machine with a launcher of its own, which starts the steps of some jobs under `nice`.
//!
//!     own_launcher SPEC STATE_DIR

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use torc_core::traits::{LaunchPlan, Launcher, LauncherError, Step};
use torc_executors::launched::{LaunchFolders, Launched};
use torc_executors::{host, keeper, local::LocalConfig, local::LocalExecutor};
use torc_server::{embed::Embedded, session::Launching};

/// Jobs whose names begin with `background` are started by `nice`.
struct Nice;

impl Launcher for Nice {
    fn name(&self) -> &str {
        "nice"
    }

    fn plan(&self, step: &Step, _: &str) -> Result<LaunchPlan, LauncherError> {
        let mut argv = step.argv.clone();
        if step.job_name.starts_with("background") {
            argv.splice(0..0, ["nice", "-n", "7"].map(str::to_owned));
        }
        Ok(LaunchPlan { argv, ..LaunchPlan::default() })
    }
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    // The executor starts this very program to watch over the processes of jobs.
    if let Some(code) = keeper::run_if_asked() {
        return Ok(code);
    }
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().collect();
    let torc = Embedded::open(Path::new(&words[1]), Path::new(&words[2]))?;
    let nodes = vec![host::inventory()?];
    let here = nodes.clone();
    let begin = async |start: torc_server::session::Start<'_>| {
        let folders = LaunchFolders::new(start.scratch.clone(), start.events);
        let config = LocalConfig::new(here, start.scratch, std::env::vars_os().collect());
        let local = LocalExecutor::start(config, folders.clone())?;
        Ok(Launching::by(Arc::new(Launched::new(Arc::new(local), Arc::new(Nice), folders))))
    };
    let outcome = torc.run(nodes, begin).await?;
    Ok(if outcome.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
