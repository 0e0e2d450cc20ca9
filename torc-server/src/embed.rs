//! torc inside a program of one's own: a spec from its file to the outcome of its run, with an executor, a launcher,
//! a placer or a scheduler that the program brings along.
//!
//! | the program brings | and calls |
//! |---|---|
//! | nothing | [`Embedded::run_here`] |
//! | an [`Executor`](torc_core::traits::Executor) | [`Embedded::run`], which is given what makes it |
//! | a [`Launcher`](torc_core::traits::Launcher) | [`Embedded::run`], with a [`Launched`](torc_executors::launched::Launched) executor |
//! | a [`Placer`](torc_core::traits::Placer) | [`Embedded::with_placers`], then any of these |
//! | a [`Scheduler`](torc_core::traits::Scheduler) | [`Embedded::with_scheduler`], then [`Embedded::run_in_allocations`] |
//!
//! What each has to do, when it is called and what follows from its answers, is the contract of its trait; which of
//! them to take, and whether a plugin would do, is told in [`torc_core::traits`]. A whole run, with an executor
//! that says of each step that it succeeded:
//!
//! ```
//! use std::sync::Arc;
//! use torc_core::{ids::StepId, resources::NodeInventory, traits::*};
//! use torc_server::{clock::now, embed::Embedded, session::Launching};
//!
//! struct Dry(Vec<NodeInventory>, Arc<dyn StepEvents>);
//!
//! #[async_trait::async_trait]
//! impl Executor for Dry {
//!     async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
//!         Ok(self.0.clone())
//!     }
//!     async fn launch(&self, Step { id: step, .. }: Step) -> Result<(), ExecutorError> {
//!         let outcome = Outcome::Exited { code: 0 };
//!         self.1.emit(StepEvent::Ended { step, at: now(), outcome, usage: Usage::default() });
//!         Ok(())
//!     }
//!     async fn signal(&self, _: StepId, _: StepSignal) -> Result<(), ExecutorError> {
//!         Ok(()) // It has ended already.
//!     }
//!     async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
//!         Ok(vec![StepState::Unknown; steps.len()])
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let spec = folder.path().join("w.yaml");
//! std::fs::write(&spec, "name: w\njobs: [{name: a, command: x}, {name: b, command: y, depends_on: [a]}]")?;
//! let nodes = vec![torc_executors::host::inventory()?];
//! let dry = |events| Launching::by(Arc::new(Dry(nodes.clone(), events)));
//! let torc = Embedded::open(&spec, &folder.path().join("torc_output"))?;
//! let ended = torc.run(nodes.clone(), async |start| Ok(dry(start.events))).await?;
//! assert!(ended.failed.is_empty() && ended.report.jobs == 2);
//! # Ok(())
//! # }
//! ```
//!
//! While a run is under way `torc status` and the other commands see it in its state directory, and `torc restart` goes
//! on where it was interrupted. Whoever runs torc's own executor, or is the worker of allocations, begins with
//! [`run_if_asked`].
//!
//! Owns: the way from a file to an outcome. Does not know: what the program brings, nor who looks at the outcome: it
//! neither prints nor exits. Invariant: what is wrong with a spec is told before anything is written.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use torc_core::diagnostics::{Problem, SourceText};
use torc_core::resources::NodeInventory;
use torc_core::spec::{Context, Format, load};
use torc_core::traits::ExecutorError;
use torc_core::workflow::Workflow;
use torc_executors::host;
use torc_executors::local::{LocalConfig, LocalExecutor};

use crate::clock::now;
use crate::placers::Placers;
use crate::serve::ServeError;
use crate::session::{Launching, RunError, RunOptions, RunOutcome, Session, Start};
use crate::spec_folders::SpecFolders;
use crate::state_dir::StateDir;
use crate::store::{Origin, StoreError};

mod served;
mod worker;

use served::Sources;
pub use worker::{
    CPUS_VARIABLE, EmbeddedWorkerError, HANDLE_VARIABLE, run_if_asked, worker_command,
};

/// A spec and a state directory, ready for a run.
pub struct Embedded {
    workflow: Arc<Workflow>,
    origin: Origin,
    dir: StateDir,
    placers: Placers,
    sources: Sources,
}

/// A spec could not be run.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// The spec is wrong: each problem on a line, as `file:line:column: what`.
    #[error("the spec cannot be used:{0}")]
    Rejected(String),
    /// The state directory, or the current one, cannot be used.
    #[error("the state directory {path}: {source}")]
    StateDir {
        /// Which.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The run did not begin, or could not go on.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The server of a run in allocations did not begin, or could not go on.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The workflow cannot be run in allocations: why, over several lines where there is more to say.
    #[error("the workflow was not taken: {0}")]
    NotTaken(String),
    /// Somebody told the server to end before the run did. What runs in allocations goes on.
    #[error("the server was told to end, and the run goes on without it; `torc serve` takes it up")]
    Stopped,
}

impl Embedded {
    /// Reads a spec, to be run with this state directory, in the current folder.
    ///
    /// # Errors
    /// When the spec cannot be read or is wrong. Nothing was written.
    pub fn open(spec: &Path, state_dir: &Path) -> Result<Self, EmbedError> {
        let in_state_dir = |source| EmbedError::StateDir { path: state_dir.to_path_buf(), source };
        let dir = StateDir::at(state_dir).map_err(in_state_dir)?;
        let here = std::env::current_dir().map_err(in_state_dir)?;
        let bytes = std::fs::read(spec)
            .map_err(|source| EmbedError::Unreadable { path: spec.to_path_buf(), source })?;
        let name = spec.to_string_lossy();
        let context = Context { user: None, sources: &SpecFolders::of(spec) };
        let loaded = load(&bytes, Format::from_extension(&name), &context).map_err(|rejected| {
            let text = String::from_utf8_lossy(&bytes).into();
            let source = SourceText { name: (&*name).into(), text };
            EmbedError::Rejected(lines(&source, &rejected.problems))
        })?;
        let origin = Origin {
            submission_dir: here.to_string_lossy().into_owned(),
            spec_path: Some(name.into_owned()),
            submitted_at: now(),
            submitter: None,
        };
        Ok(Self {
            workflow: Arc::new(loaded.workflow),
            origin,
            dir,
            placers: Placers::none(),
            sources: Sources::default(),
        })
    }

    /// With placers of one's own, by the name that `execution_config.placer` has.
    #[must_use]
    pub fn with_placers(self, placers: Placers) -> Self {
        Self { placers, ..self }
    }

    /// Runs it to its end on all that this process may use of this host, with the Local executor. The program begins
    /// with [`run_if_asked`], or with [`keeper::run_if_asked`](torc_executors::keeper::run_if_asked).
    ///
    /// # Errors
    /// As [`run`](Self::run), and when the host cannot be looked at.
    pub async fn run_here(self) -> Result<RunOutcome, EmbedError> {
        let inventory = host::inventory();
        let nodes =
            vec![inventory.map_err(|error| {
                RunError::Executor(ExecutorError::Inventory(error.to_string()))
            })?];
        let granted = nodes.clone();
        let begin = async |start: Start<'_>| {
            let env = std::env::vars_os().collect();
            let local =
                LocalExecutor::start(LocalConfig::new(granted, start.scratch, env), start.events)?;
            Ok(Launching::by(Arc::new(local)))
        };
        self.run(nodes, begin).await
    }

    /// Runs it on these nodes to its end. `executor` makes what launches its steps.
    ///
    /// # Errors
    /// When a job can never run on these nodes, or a part of torc fails. What completed is stored.
    pub async fn run(
        self,
        nodes: Vec<NodeInventory>,
        executor: impl AsyncFnOnce(Start<'_>) -> Result<Launching, ExecutorError>,
    ) -> Result<RunOutcome, EmbedError> {
        let options = RunOptions::on(nodes);
        let mut session = Session::open(self.dir).await?.with_placers(self.placers);
        session.check(&self.workflow, &self.origin, &options)?;
        let id = session.add(&self.workflow, &self.origin).await?;
        let running = session.begin(Some(id), options, executor).await?;
        Ok(running.wait().await?)
    }
}

/// Each problem with its place.
fn lines(source: &SourceText, problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems {
        let place = problem.span.map_or_else(String::new, |span| {
            let (line, column) = source.position(span.start);
            format!(":{line}:{column}")
        });
        // To a string it cannot fail.
        let _ = write!(text, "\n  {}{place}: {}", source.name, problem.message);
    }
    text
}
