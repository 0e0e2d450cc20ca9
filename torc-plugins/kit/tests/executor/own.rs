//! torc's own executors that need no cluster: Local, on two pretended nodes, and that of one node of mode direct, as far
//! as it goes without Slurm.

use std::ffi::OsString;
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;
use torc_core::resources::NodeInventory;
use torc_core::traits::{Executor, StepEvents};
use torc_executors::direct::{NodeConfig, NodeExecutor};
use torc_executors::local::{LocalConfig, LocalExecutor};
use torc_plugin_kit::{Candidate, Check, ExecutorSite, Executors, Finding, OpenExecutor, Verdict};

use crate::found::verdict;

/// Makes executors; what they need lies in a folder that goes with it.
pub(crate) struct Own {
    folder: TempDir,
    is_local: bool,
}

struct OpenLocal(LocalExecutor);

struct OpenNode(NodeExecutor);

#[async_trait]
impl OpenExecutor for OpenLocal {
    fn executor(&self) -> &dyn Executor {
        &self.0
    }

    async fn close(&self) {
        self.0.shutdown().await;
    }
}

#[async_trait]
impl OpenExecutor for OpenNode {
    fn executor(&self) -> &dyn Executor {
        &self.0
    }

    async fn close(&self) {
        self.0.shutdown().await;
    }
}

fn node(name: &str) -> NodeInventory {
    NodeInventory {
        name: name.into(),
        cores: [0].into(),
        threads_per_core: 1,
        memory: 1 << 30,
        gpus: Box::default(),
        slots: None,
    }
}

/// This process's, but for what a Slurm that it runs in has put there.
fn base_env() -> Vec<(OsString, OsString)> {
    let is_slurms = |name: &OsString| name.to_string_lossy().starts_with("SLURM");
    std::env::vars_os().filter(|(name, _)| !is_slurms(name)).collect()
}

impl Own {
    pub(crate) fn local() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), is_local: true }
    }

    fn node() -> Self {
        Self { is_local: false, ..Self::local() }
    }

    /// Where the checks put their folders.
    pub(crate) fn site<'a>(&self, executors: &'a dyn Executors) -> ExecutorSite<'a> {
        ExecutorSite::new(executors, self.folder.path().to_owned())
    }

    pub(crate) fn start_local(&self, events: Arc<dyn StepEvents>) -> Result<LocalExecutor, String> {
        let scratch =
            tempfile::tempdir_in(self.folder.path()).map_err(|error| error.to_string())?;
        let nodes = vec![node("n1"), node("n2")];
        let config = LocalConfig::new(nodes, scratch.keep(), base_env());
        LocalExecutor::start(config, events).map_err(|error| error.to_string())
    }

    fn start_node(&self, events: Arc<dyn StepEvents>) -> Result<NodeExecutor, String> {
        let crew = tempfile::tempdir_in(self.folder.path()).map_err(|error| error.to_string())?;
        let config = NodeConfig {
            base_env: base_env(),
            node: node("n1"),
            crew_dir: crew.keep(),
            srun: "/no/such/srun".into(),
            enforce_memory: true,
            umask: None,
            keeper_program: None,
        };
        NodeExecutor::start(config, events).map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Executors for Own {
    async fn open(&self, events: Arc<dyn StepEvents>) -> Result<Box<dyn OpenExecutor>, String> {
        Ok(if self.is_local {
            Box::new(OpenLocal(self.start_local(events)?))
        } else {
            Box::new(OpenNode(self.start_node(events)?))
        })
    }
}

fn verdict_of(own: &Own, check: &Check) -> Verdict {
    verdict(check, Candidate::Executor(&own.site(own)))
}

/// The Local executor keeps this promise.
pub(crate) fn local(check: &Check) {
    assert_eq!(verdict_of(&Own::local(), check), Ok(()));
}

/// The executor of one node keeps this promise; it has no second one.
pub(crate) fn node_of_one(check: &Check) {
    let verdict = verdict_of(&Own::node(), check);
    if check.name == "executor.gang" {
        assert!(matches!(verdict, Err(Finding::NotShown(_))), "{verdict:?}");
    } else {
        assert_eq!(verdict, Ok(()));
    }
}
