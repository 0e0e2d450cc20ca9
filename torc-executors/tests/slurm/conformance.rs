//! The conformance kit's checks of executors, inside an allocation of two nodes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use torc_core::ids::AllocationId;
use torc_core::traits::{Executor, StepEvents};
use torc_executors::slurm::{SlurmConfig, SlurmExecutor};
use torc_plugin_kit::{
    Candidate, Check, ExecutorSite, Executors, Interface, OpenExecutor, checks_of,
};

use crate::cluster::not_run_here;
use crate::site::{PATIENCE, Test};

pub(crate) const TESTS: &[Test] = &[Test::new("every_check_of_the_kit_holds", every_check)];

struct Slurm {
    folder: PathBuf,
}

struct Open(SlurmExecutor);

#[async_trait]
impl OpenExecutor for Open {
    fn executor(&self) -> &dyn Executor {
        &self.0
    }

    async fn close(&self) {
        self.0.shutdown().await;
    }
}

#[async_trait]
impl Executors for Slurm {
    async fn open(&self, events: Arc<dyn StepEvents>) -> Result<Box<dyn OpenExecutor>, String> {
        let scratch = tempfile::tempdir_in(&self.folder).map_err(|error| error.to_string())?;
        let env = std::env::vars_os().collect();
        let config = SlurmConfig::new(AllocationId(1), scratch.keep(), env);
        let executor = SlurmExecutor::start(config, events).await;
        Ok(Box::new(Open(executor.map_err(|error| error.to_string())?)))
    }
}

/// Without control groups Slurm loses sight of a process whose parent has ended (`tests/slurm/up` says so, too), and
/// nobody else could find it on another node.
const NEEDS_CONTROL_GROUPS: &str = "executor.nothing_left_behind";

fn has_control_groups() -> bool {
    let said = std::process::Command::new("scontrol").args(["show", "config"]).output();
    let said = said.expect("scontrol can be run").stdout;
    String::from_utf8_lossy(&said).contains("proctrack/cgroup")
}

fn every_check() {
    let has_control_groups = has_control_groups();
    if !has_control_groups {
        let reason = "this cluster has no control groups";
        not_run_here(&format!("optional: {NEEDS_CONTROL_GROUPS} of the Slurm executor ({reason})"));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let slurm = Slurm { folder: folder.path().to_owned() };
    let mut site = ExecutorSite::new(&slurm, folder.path().to_owned());
    site.patience = PATIENCE;
    // Twice as many as there are cores: the second half waits for the first.
    site.at_once = 32;
    let mut broken = Vec::new();
    let is_fit = |check: &&Check| has_control_groups || check.name != NEEDS_CONTROL_GROUPS;
    for check in checks_of(Interface::Executor).filter(is_fit) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let candidate = Candidate::Executor(&site);
        let verdict = runtime.block_on(async {
            tokio::time::timeout(PATIENCE + Duration::from_secs(30), check.run(candidate)).await
        });
        runtime.shutdown_background();
        if verdict.as_ref() != Ok(&Some(Ok(()))) {
            broken.push(format!("{}: {verdict:?}", check.name));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
