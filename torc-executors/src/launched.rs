//! Steps that a launcher starts: an executor around another, which is given what the launcher makes of each.
//!
//! Owns: the files that a launcher wants to be there, in a folder for each step. Does not know: what launches steps,
//! what a launcher puts around a command. Invariants: a step that cannot be planned ends as a failed launch; the
//! folder of a step goes with it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use torc_core::ids::StepId;
use torc_core::resources::NodeInventory;
use torc_core::traits::{
    Executor, ExecutorError, LaunchPlan, LaunchStage, Launcher, Outcome, Step, StepEvent,
    StepEvents, StepSignal, StepState, Usage,
};

use crate::clock::now;

/// Where the files of steps are. It listens to the executor that launches them.
pub struct LaunchFolders {
    scratch: PathBuf,
    events: Arc<dyn StepEvents>,
    /// The steps that have one: most launchers want no files.
    made: Mutex<BTreeSet<StepId>>,
}

impl LaunchFolders {
    /// Folders in this one, absolute and on a file system that all nodes see. What the executor reports is passed on
    /// to `events`.
    pub fn new(scratch: PathBuf, events: Arc<dyn StepEvents>) -> Arc<Self> {
        Arc::new(Self { scratch, events, made: Mutex::default() })
    }

    fn made(&self) -> MutexGuard<'_, BTreeSet<StepId>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, step: StepId) -> PathBuf {
        self.scratch.join(format!("launch_{step}"))
    }
}

impl StepEvents for LaunchFolders {
    fn emit(&self, event: StepEvent) {
        if let StepEvent::Ended { step, .. } = &event
            && self.made().remove(step)
        {
            remove(&self.of(*step));
        }
        self.events.emit(event);
    }
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        tracing::warn!(%error, folder = %folder.display(), "a launcher's files are left");
    }
}

/// An executor whose steps a launcher starts.
pub struct Launched {
    inner: Arc<dyn Executor>,
    launcher: Arc<dyn Launcher>,
    folders: Arc<LaunchFolders>,
}

impl Launched {
    /// Puts a launcher before an executor that reports to these folders.
    pub fn new(
        inner: Arc<dyn Executor>,
        launcher: Arc<dyn Launcher>,
        folders: Arc<LaunchFolders>,
    ) -> Self {
        Self { inner, launcher, folders }
    }

    /// Has the launcher plan a step, and writes its files.
    async fn plan(&self, step: &Step) -> Result<LaunchPlan, String> {
        let folder = self.folders.of(step.id);
        let path = folder.to_str().ok_or_else(|| {
            format!("the path of its folder is not valid UTF-8: {}", folder.display())
        })?;
        let (launcher, copy, path) = (self.launcher.clone(), step.clone(), path.to_owned());
        // A plugin may take its time, or for ever.
        let planned = tokio::task::spawn_blocking(move || launcher.plan(&copy, &path)).await;
        let plan = match planned {
            Ok(plan) => plan.map_err(|error| error.to_string())?,
            Err(error) => return Err(format!("its launcher {error}")),
        };
        if !plan.files.is_empty() {
            self.folders.made().insert(step.id);
            write(&folder, &plan.files).map_err(|error| {
                format!("the files of its launcher in {}: {error}", folder.display())
            })?;
        }
        Ok(plan)
    }
}

fn write(folder: &Path, files: &[(String, String)]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, content) in files {
        let is_plain =
            !name.is_empty() && !matches!(&**name, "." | "..") && !name.contains(['/', '\0']);
        if !is_plain {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} is no name of a file"),
            ));
        }
        std::fs::write(folder.join(name), content)?;
    }
    Ok(())
}

#[async_trait]
impl Executor for Launched {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        self.inner.inventory().await
    }

    async fn launch(&self, mut step: Step) -> Result<(), ExecutorError> {
        match self.plan(&step).await {
            Ok(LaunchPlan { argv, env, .. }) => {
                step.argv = argv;
                step.env.extend(env);
                self.inner.launch(step).await
            }
            Err(reason) => {
                let outcome = Outcome::LaunchFailed { stage: LaunchStage::Prepare, reason };
                let (step, usage) = (step.id, Usage::default());
                self.folders.emit(StepEvent::Ended { step, at: now(), outcome, usage });
                Ok(())
            }
        }
    }

    async fn signal(&self, step: StepId, signal: StepSignal) -> Result<(), ExecutorError> {
        self.inner.signal(step, signal).await
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        self.inner.reconcile(steps).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use torc_core::launch_template::LaunchTemplate;
    use torc_core::traits::LauncherError;

    use super::*;
    use crate::slurm::launcher::tests::{gang, single};

    /// Keeps what it is to launch.
    #[derive(Default)]
    struct Kept(Mutex<Vec<Step>>);

    #[async_trait]
    impl Executor for Kept {
        async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
            Ok(Vec::new())
        }

        async fn launch(&self, step: Step) -> Result<(), ExecutorError> {
            self.0.lock().unwrap().push(step);
            Ok(())
        }

        async fn signal(&self, _: StepId, _: StepSignal) -> Result<(), ExecutorError> {
            Err(ExecutorError::Gone("signal".to_owned()))
        }

        async fn reconcile(&self, _: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
            Err(ExecutorError::Gone("reconcile".to_owned()))
        }
    }

    struct Broken(fn() -> Result<LaunchPlan, LauncherError>);

    impl Launcher for Broken {
        fn name(&self) -> &str {
            "broken"
        }

        fn plan(&self, _: &Step, _: &str) -> Result<LaunchPlan, LauncherError> {
            (self.0)()
        }
    }

    fn site(
        launcher: Arc<dyn Launcher>,
    ) -> (tempfile::TempDir, Arc<Kept>, Launched, UnboundedReceiver<StepEvent>) {
        let scratch = tempfile::tempdir().unwrap();
        let (tell, told) = unbounded_channel();
        let events = Arc::new(move |event| tell.send(event).expect("somebody listens"));
        let folders = LaunchFolders::new(scratch.path().to_path_buf(), events);
        let kept = Arc::new(Kept::default());
        (scratch, kept.clone(), Launched::new(kept, launcher, folders), told)
    }

    #[tokio::test]
    async fn a_step_is_what_its_launcher_makes_of_it_and_its_files_go_with_it() {
        let words = ["run", "-f", "{hostfile}", "{command}"].map(str::to_owned).to_vec();
        let template = LaunchTemplate::try_from(words).unwrap();
        let (scratch, kept, launched, mut told) = site(Arc::new(template));
        launched.launch(gang()).await.unwrap();
        let step = kept.0.lock().unwrap().pop().unwrap();
        assert_eq!((&*step.argv[0], &step.argv[3..]), ("run", &gang().argv[..]));
        assert_eq!(std::fs::read_to_string(&step.argv[2]).unwrap(), "node2\nnode3\nnode4\n");
        assert_eq!(Step { argv: gang().argv, ..step.clone() }, gang(), "all else is as it was");
        let ended = StepEvent::Ended {
            step: step.id,
            at: now(),
            outcome: Outcome::Exited { code: 0 },
            usage: Usage::default(),
        };
        launched.folders.emit(ended.clone());
        assert_eq!(told.recv().await, Some(ended));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_step_that_cannot_be_planned_is_a_failed_launch() {
        let refuses = || {
            Err(LauncherError::Unsupported {
                launcher: "broken".to_owned(),
                reason: "no".to_owned(),
            })
        };
        let climbs = || {
            Ok(LaunchPlan {
                argv: vec!["x".to_owned()],
                files: vec![("../x".to_owned(), String::new())],
                ..LaunchPlan::default()
            })
        };
        let panics = || panic!("a bug");
        for (plan, words) in [
            (refuses as fn() -> _, "launcher `broken` cannot start this step: no"),
            (climbs, "\"../x\" is no name of a file"),
            (panics, "panicked"),
        ] {
            let (_scratch, kept, launched, mut told) = site(Arc::new(Broken(plan)));
            launched.launch(single()).await.unwrap();
            let Some(StepEvent::Ended { outcome: Outcome::LaunchFailed { stage, reason }, .. }) =
                told.recv().await
            else {
                panic!("it failed");
            };
            assert_eq!(stage, LaunchStage::Prepare);
            assert!(reason.contains(words), "{reason}");
            assert_eq!(kept.0.lock().unwrap().len(), 0);
        }
    }

    #[tokio::test]
    async fn all_else_is_the_executors() {
        let (_scratch, _, launched, _told) = site(Arc::new(Broken(|| Ok(LaunchPlan::default()))));
        assert_eq!(launched.inventory().await.unwrap(), []);
        let error = launched.signal(single().id, StepSignal::Kill).await.unwrap_err();
        assert!(error.to_string().ends_with("signal"), "{error}");
        let error = launched.reconcile(&[]).await.unwrap_err();
        assert!(error.to_string().ends_with("reconcile"), "{error}");
    }
}
