//! The conformance kit, run against a plugin: each of its checks by name, so that each can have a process of its own.
//!
//! Owns: what a check of the kit is given of a plugin, and how long it may take. Does not know: in which process it is
//! done. Invariant: a launcher or a placer that broke down meanwhile has failed, whatever the kit made of it: to the
//! traits that is a refusal, and an empty plan.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde_json::{Map, Value};
use torc_core::ids::JobId;
use torc_core::time::Timestamp;
use torc_core::traits::{
    AllocationRequest, Delta, Executor, LaunchPlan, Launcher, LauncherError, Placer, Plan,
    Snapshot, Step, StepEvents, Waiting,
};
use torc_plugin_kit::{
    Candidate, ExecutorSite, Executors, Finding, Interface, LauncherSite, OpenExecutor, PlacerSite,
    SchedulerSite, Verdict as Kept, checks_of,
};

use super::Check;
use crate::error::Fault;
use crate::executor::PluginExecutor;
use crate::kind::Kind;
use crate::launcher::PluginLauncher;
use crate::placer::PluginPlacer;
use crate::scheduler::PluginScheduler;
use crate::shelf::Plugin;

/// Any one thing that steps do may take so long.
const STEPS_PATIENCE: Duration = Duration::from_secs(30);
/// So long may an allocation wait in a queue, or for its end.
const QUEUE_PATIENCE: Duration = Duration::from_secs(300);
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(200);
/// The walltime of the allocations that are asked for.
const WALLTIME: Duration = Duration::from_secs(600);
/// What still runs when an executor is closed may go on for so long.
const GRACE: Duration = Duration::from_secs(5);
/// Enough to find each fault of the kit's own tests, and few enough for a program that starts slowly.
const PLACER_CASES: u32 = 25;

/// One check of the kit, as it can be asked for.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// Its name: the interface, a dot, what must hold.
    pub name: &'static str,
    /// It asks for real allocations.
    pub submits: bool,
    /// How long all of it may take.
    pub limit: Duration,
}

/// Where checks take place, and with what.
#[derive(Clone, Debug)]
pub struct Site {
    /// A folder, absolute, in which they may make folders of their own; steps and allocations see it.
    pub folder: PathBuf,
    /// The settings of a scheduler in a spec, for the allocations that are asked for.
    pub scheduler: Map<String, Value>,
}

/// A folder for what steps and allocations leave, which goes with all that is in it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one in another.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn below(folder: &Path) -> io::Result<Self> {
        let name = format!("torc-plugin-check-{}", std::process::id());
        let path = std::path::absolute(folder.join(name))?;
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Its path, absolute.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The checks that there are of an interface, in a good order.
pub fn promises(kind: Kind) -> impl Iterator<Item = Promise> {
    let limit = match kind {
        Kind::Launcher | Kind::Placer => Duration::from_secs(90),
        Kind::Executor => 4 * STEPS_PATIENCE,
        Kind::Scheduler => 4 * QUEUE_PATIENCE,
    };
    checks_of(interface(kind)).map(move |check| Promise {
        name: check.name,
        submits: kind == Kind::Scheduler && check.name != "scheduler.shapes",
        limit,
    })
}

fn interface(kind: Kind) -> Interface {
    match kind {
        Kind::Launcher => Interface::Launcher,
        Kind::Executor => Interface::Executor,
        Kind::Scheduler => Interface::Scheduler,
        Kind::Placer => Interface::Placer,
    }
}

/// Runs one check of the kit. The plugin's code runs in this process; it and what it starts may outlive the check.
pub fn of_promise(
    plugin: &Plugin,
    kind: Kind,
    settings: &Map<String, Value>,
    name: &str,
    site: &Site,
) -> Check {
    let Some(check) = checks_of(interface(kind)).find(|check| check.name == name) else {
        return Check::failed(name, "the conformance kit of this torc has no such check");
    };
    let breakdown = Breakdown::default();
    // Whoever asks may have a runtime of its own, in which there can be no other.
    let kept = std::thread::scope(|scope| {
        let look = || verdict(plugin, kind, settings, check, site, &breakdown);
        scope.spawn(look).join().unwrap_or_else(|_| Err(not_shown("the check panicked".to_owned())))
    });
    let words = |words: String| format!("plugin `{}`: {words}", plugin.about().name);
    match (breakdown.first(), kept) {
        (Some(how), _) => Check::failed(name, words(how)),
        (None, Ok(())) => Check::ok(name, check.proves),
        (None, Err(Finding::NotShown(reason))) => Check::left_out(name, reason),
        (None, Err(finding)) => Check::failed(name, words(finding.to_string())),
    }
}

fn verdict(
    plugin: &Plugin,
    kind: Kind,
    settings: &Map<String, Value>,
    check: &torc_plugin_kit::Check,
    site: &Site,
    breakdown: &Breakdown,
) -> Kept {
    match kind {
        Kind::Launcher => {
            let make = || {
                breakdown.none_yet()?;
                let opened = PluginLauncher::open(plugin, settings);
                let launcher = opened.map_err(|error| error.to_string())?;
                Ok(Box::new(Watched { inner: launcher, breakdown: breakdown.clone() }) as _)
            };
            run(check, Candidate::Launcher(&LauncherSite { make: &make }))
        }
        Kind::Placer => {
            let make = || {
                breakdown.none_yet()?;
                let opened = PluginPlacer::open(plugin, settings);
                let placer = opened.map_err(|error| error.to_string())?;
                Ok(Box::new(Watched { inner: placer, breakdown: breakdown.clone() }) as _)
            };
            let site = PlacerSite { cases: PLACER_CASES, ..PlacerSite::new(&make) };
            run(check, Candidate::Placer(&site))
        }
        Kind::Executor => {
            let executors = Opening { plugin, settings };
            let site = ExecutorSite {
                patience: STEPS_PATIENCE,
                ..ExecutorSite::new(&executors, site.folder.clone())
            };
            run(check, Candidate::Executor(&site))
        }
        Kind::Scheduler => {
            let opened = PluginScheduler::open(plugin, settings);
            let scheduler = opened.map_err(|error| Finding::Broken {
                expected: "a scheduler".to_owned(),
                seen: error.to_string(),
            })?;
            let scheduler = scheduler.strict();
            run(check, Candidate::Scheduler(&scheduler_site(&scheduler, site)))
        }
    }
}

fn not_shown(reason: String) -> Finding {
    Finding::NotShown(reason)
}

fn run(check: &torc_plugin_kit::Check, candidate: Candidate<'_>) -> Kept {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| not_shown(format!("there is no runtime: {error}")))?;
    let kept = runtime.block_on(check.run(candidate));
    // Nobody waits for a plugin that does not come back.
    runtime.shutdown_background();
    kept.unwrap_or_else(|| Err(not_shown("it is for another interface".to_owned())))
}

fn scheduler_site<'a>(scheduler: &'a PluginScheduler, site: &Site) -> SchedulerSite<'a> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SchedulerSite {
        scheduler,
        request: AllocationRequest {
            name: "torc-check".to_owned(),
            nodes: 1,
            walltime: Some(WALLTIME),
            settings: Value::Object(site.scheduler.clone()),
            command: vec!["/bin/true".to_owned()],
            working_dir: text(&site.folder),
            output: text(&site.folder.join("output")),
            env: std::env::vars_os().map(|(name, value)| (name.into(), value.into())).collect(),
            umask: None,
            after: None,
        },
        // What it refuses, and how it names what is not there, is the source's own.
        refused: None,
        unknown: None,
        folder: site.folder.clone(),
        key: format!("check-{}-{:x}", std::process::id(), since.as_micros()),
        patience: QUEUE_PATIENCE,
        look_every: BETWEEN_QUESTIONS,
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// How a plugin broke down first, if it did.
#[derive(Clone, Default)]
struct Breakdown(Arc<Mutex<Option<String>>>);

impl Breakdown {
    fn note(&self, how: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(how);
    }

    fn first(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nothing is to be learnt of one that broke down, and each call may take its whole time again.
    fn none_yet(&self) -> Result<(), String> {
        self.first().map_or(Ok(()), Err)
    }
}

/// One whose breakdowns are noted.
struct Watched<T> {
    inner: T,
    breakdown: Breakdown,
}

impl Launcher for Watched<PluginLauncher> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn plan(&self, step: &Step, folder: &str) -> Result<LaunchPlan, LauncherError> {
        let refused = |how| self.inner.refusal(&Fault::Invalid(how));
        self.breakdown.none_yet().map_err(refused)?;
        self.inner.plan_or_fault(step, folder).map_err(|fault| {
            if !matches!(fault, Fault::Invalid(_) | Fault::Transient(_)) {
                self.breakdown.note(format!("expected a plan or a refusal; saw: {fault}"));
            }
            self.inner.refusal(&fault)
        })
    }
}

impl Placer for Watched<PluginPlacer> {
    fn apply(&mut self, deltas: &[Delta]) {
        self.inner.apply(deltas);
    }

    fn plan(&mut self, now: Timestamp, limit: usize) -> Plan {
        let plan = self.inner.plan(now, limit);
        if let Some(failure) = &plan.failure {
            self.breakdown.note(format!("expected an answer to each question; saw: {failure}"));
        }
        plan
    }

    fn explain(&self, job: JobId, now: Timestamp) -> Option<Waiting> {
        let waiting = self.inner.explain(job, now);
        if let Some(failure) = self.inner.failure() {
            self.breakdown.note(format!("expected an answer to each question; saw: {failure}"));
        }
        waiting
    }

    fn rebuild(&mut self, snapshot: &Snapshot) {
        self.inner.rebuild(snapshot);
    }
}

/// Makes executors of a plugin.
struct Opening<'a> {
    plugin: &'a Plugin,
    settings: &'a Map<String, Value>,
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
        // Whether it came to an end is what the checks look at.
        let _ = tokio::task::spawn_blocking(move || executor.shutdown(GRACE)).await;
    }
}

#[async_trait]
impl Executors for Opening<'_> {
    async fn open(&self, events: Arc<dyn StepEvents>) -> Result<Box<dyn OpenExecutor>, String> {
        let opened = PluginExecutor::open(self.plugin, self.settings, events, clock);
        let executor = opened.map_err(|error| error.to_string())?;
        Ok(Box::new(Open(Arc::new(executor))))
    }
}
