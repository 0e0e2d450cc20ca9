//! The conformance kit, run over the boundary: a launcher and an executor that are a program keep every promise.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde_json::Map;
use tempfile::TempDir;
use torc_core::time::Timestamp;
use torc_core::traits::{Executor, StepEvents};
use torc_plugin_kit::{
    Candidate, ExecutorSite, Executors, LauncherSite, OpenExecutor, Verdict, checks_of,
};

use crate::executor::PluginExecutor;
use crate::launcher::PluginLauncher;
use crate::shelf::{Found, Plugin, Shelf};
use crate::tests::folder;

/// The program, in a folder that nobody else can write to.
fn here() -> (TempDir, Plugin) {
    let (folder, trust) = folder();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("kit/fixtures/here.py");
    let path = folder.path().join("torc-plugin-here");
    let text = fs::read_to_string(program).expect("it is there");
    fs::write(&path, text).expect("is written");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("can be run");
    let shelf = Shelf::new(Vec::new(), trust, Default::default());
    let plugin = shelf.take(&Found { name: "here".to_owned(), path }).expect("it is a plugin");
    (folder, plugin)
}

fn assert_keeps(candidate: Candidate<'_>) {
    let mut broken = Vec::new();
    for check in checks_of(candidate.interface()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let verdict: Option<Verdict> = runtime.expect("a runtime").block_on(check.run(candidate));
        if verdict != Some(Ok(())) {
            broken.push(format!("{}: {verdict:?}", check.name));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_launcher_that_is_a_program_keeps_every_promise() {
    let (_folder, plugin) = here();
    let make = || {
        let opened = PluginLauncher::open(&plugin, &Map::new());
        opened.map(|launcher| Box::new(launcher) as _).map_err(|error| error.to_string())
    };
    assert_keeps(Candidate::Launcher(&LauncherSite { make: &make }));
}

struct Here {
    plugin: Plugin,
}

struct Open(Arc<PluginExecutor>);

fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[async_trait]
impl OpenExecutor for Open {
    fn executor(&self) -> &dyn Executor {
        &*self.0
    }

    async fn close(&self) {
        let executor = Arc::clone(&self.0);
        let closed = tokio::task::spawn_blocking(move || executor.shutdown(Duration::from_secs(5)));
        closed.await.expect("it does not panic");
    }
}

#[async_trait]
impl Executors for Here {
    async fn open(&self, events: Arc<dyn StepEvents>) -> Result<Box<dyn OpenExecutor>, String> {
        let opened = PluginExecutor::open(&self.plugin, &Map::new(), events, clock);
        let executor = opened.map_err(|error| error.to_string())?;
        Ok(Box::new(Open(Arc::new(executor))))
    }
}

#[test]
fn an_executor_that_is_a_program_keeps_every_promise() {
    let (folder, plugin) = here();
    let here = Here { plugin };
    assert_keeps(Candidate::Executor(&ExecutorSite::new(&here, folder.path().to_owned())));
}
