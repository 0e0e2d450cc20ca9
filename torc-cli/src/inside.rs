//! Where the jobs of `torc run` run: on this host, or on the nodes of the allocation that it was started in.
//!
//! Owns that choice, what a person is told of it, and the executor that follows from it. Does not know what
//! a job asks for. Invariant: inside an allocation nothing of a job runs on this host because it happens to
//! be here; a shell of salloc is on a login node, most often.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use torc_core::resources::Inherited;
use torc_core::traits::{AllocationHandle, Executor, ExecutorError, Launcher};
use torc_core::workflow::{ExecutionMode, Header, USUAL_PARALLEL_STEPS};
use torc_executors::launched::{LaunchFolders, Launched};
use torc_executors::local::{LocalConfig, LocalExecutor};
use torc_executors::slurm::{SlurmConfig, SlurmExecutor, SlurmSurvey, hostlist};
use torc_server::allocation_request::WorkerExecutor;
use torc_server::clock::now;
use torc_server::inherited::WindUp;
use torc_server::session::{Inside, Launching, RunOptions, Start};
use torc_server::state_dir::StateDir;

use crate::args::{PluginArgs, ResourceArgs};
use crate::commands::worker::{on_node, programs};
use crate::executors::Guest;
use crate::exit::{Exit, Failure};
use crate::host::{self, Host};
use crate::launchers;
use crate::led_crew::{Leading, lead_crew};
use crate::out::errln;

/// Set in each job of torc's, and in each command of an action.
const OF_TORC: [&str; 2] = ["TORC_JOB_ID", "TORC_WORKFLOW_ID"];

/// Where a run's jobs run, and what of it they may use.
pub(crate) struct Ground {
    pub(crate) options: RunOptions,
    pub(crate) place: Place,
    /// What starts the commands of jobs; `None`: nothing does.
    pub(crate) launcher: Option<Arc<dyn Launcher>>,
}

/// Where jobs are launched.
pub(crate) enum Place {
    /// On this host.
    Host {
        config: Box<LocalConfig>,
        /// What keeps the run from the other nodes of an allocation, if it is in one.
        why: Option<Why>,
    },
    /// On all nodes of the Slurm allocation that this process is in, as steps that srun starts.
    Steps(Box<Steps>),
    /// On the same nodes, as child processes of a worker on each.
    Crew(Box<Steps>),
    /// On the nodes that a plugin has.
    Guest {
        guest: Arc<Guest>,
        scratch: PathBuf,
        /// They are those of the Slurm allocation that this process is in.
        is_inside: bool,
    },
}

/// Why a run inside an allocation uses this host only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Why {
    /// Slurm's number of the allocation.
    job: String,
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// This option says what of this machine to use.
    Option(&'static str),
    /// The run is part of a job, which was given what it may use.
    IsPartOfJob,
}

/// What steps in an allocation are launched with.
pub(crate) struct Steps {
    survey: SlurmSurvey,
    env: Vec<(OsString, OsString)>,
    scratch: PathBuf,
}

/// What to run the jobs of a run with.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Host(Option<Why>),
    Steps,
    Crew,
    /// A plugin's nodes; inside an allocation they have to be its.
    Guest {
        is_inside: bool,
    },
}

/// What the choice follows from.
struct Signs {
    /// Slurm's number of the allocation that this is in.
    job: Option<String>,
    is_part_of_job: bool,
    /// The first of the options that say what of this machine to use.
    option: Option<&'static str>,
    mode: ExecutionMode,
}

impl Signs {
    fn read(
        args: &ResourceArgs,
        mode: ExecutionMode,
        get: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let given = [
            (args.nodes.is_some(), "--nodes"),
            (args.num_cpus.is_some(), "--num-cpus"),
            (args.memory_gb.is_some(), "--memory-gb"),
            (args.num_gpus.is_some(), "--num-gpus"),
            (args.pin, "--pin"),
        ];
        Self {
            job: get("SLURM_JOB_ID").filter(|job| !job.is_empty()),
            is_part_of_job: OF_TORC.iter().any(|name| get(name).is_some()),
            option: given.into_iter().find_map(|(is_given, name)| is_given.then_some(name)),
            mode,
        }
    }

    fn choose(self) -> Choice {
        if self.mode == ExecutionMode::Plugin {
            return Choice::Guest { is_inside: self.job.is_some() && !self.is_part_of_job };
        }
        let Some(job) = self.job else { return Choice::Host(None) };
        let reason = match (self.is_part_of_job, self.option, self.mode) {
            (true, ..) => Reason::IsPartOfJob,
            (false, Some(option), _) => Reason::Option(option),
            (false, None, ExecutionMode::Direct) => return Choice::Crew,
            (false, None, _) => return Choice::Steps,
        };
        Choice::Host(Some(Why { job, reason }))
    }
}

impl Ground {
    /// Chooses, and finds out what there is.
    ///
    /// # Errors
    /// When this host cannot be looked at, or the allocation cannot be used or asked about.
    pub(crate) async fn find(
        args: &ResourceArgs,
        header: &Header,
        plugins: &PluginArgs,
        dir: &StateDir,
    ) -> Result<Self, Failure> {
        let signs = Signs::read(args, header.execution.mode, |name| std::env::var(name).ok());
        let choice = signs.choose();
        let setting = header.execution.launcher.as_ref();
        if setting.is_some() && choice == Choice::Steps {
            let message = "`launcher` is for mode direct, and inside a Slurm allocation mode auto means slurm, where \
                           srun starts every job; set `mode: direct` in `execution_config`";
            return Err(Failure::new(Exit::NeverRuns, message));
        }
        let launcher = setting
            .map(|setting| launchers::open(setting, &header.settings_of_launcher(), plugins))
            .transpose()?;
        let ground = match choice {
            Choice::Host(why) => {
                let Host { options, config } = Host::new(args, dir)?;
                let place = Place::Host { config: Box::new(config), why };
                Self { options, place, launcher: None }
            }
            Choice::Steps => Self::of_allocation(args, dir, true).await?,
            Choice::Crew => Self::of_allocation(args, dir, false).await?,
            Choice::Guest { is_inside } => {
                Self::of_guest(args, header, plugins, dir, is_inside).await?
            }
        };
        Ok(Self { launcher, ..ground })
    }

    /// The nodes that a plugin has, as far as the options say.
    async fn of_guest(
        args: &ResourceArgs,
        header: &Header,
        plugins: &PluginArgs,
        dir: &StateDir,
        is_inside: bool,
    ) -> Result<Self, Failure> {
        let executor = WorkerExecutor::of(header)
            .ok_or_else(|| Failure::internal(&"a mode of a plugin has no plugin"))?;
        let around = match is_inside {
            true => Some(Self::of_allocation(args, dir, false).await?.options),
            false => None,
        };
        let mut guest = Guest::open(&executor, plugins).await?;
        if let Some(around) = &around {
            guest = guest.within(&around.nodes)?;
        }
        let guest = guest.narrowed(args)?;
        let options = RunOptions {
            nodes: guest.nodes().to_vec(),
            labels: host::labels(args),
            scheduler: args.scheduler.as_deref().map(Box::from),
            ends_at: host::end(args),
            max_parallel_jobs: args.max_parallel_jobs,
            inside: around.and_then(|around| around.inside),
        };
        let place = Place::Guest { guest: Arc::new(guest), scratch: dir.scratch(), is_inside };
        Ok(Self { options, place, launcher: None })
    }

    async fn of_allocation(
        args: &ResourceArgs,
        dir: &StateDir,
        has_slurm_steps: bool,
    ) -> Result<Self, Failure> {
        let env: Vec<_> = std::env::vars_os().collect();
        let survey = SlurmSurvey::of(&env, programs()).await.map_err(|error| {
            let hint = "to run on this host only, give --nodes 1";
            Failure::new(Exit::Environment, format!("{error}; {hint}"))
        })?;
        let allocation = survey.allocation().clone();
        let handle = AllocationHandle(allocation.job().to_owned());
        let inside = Inside {
            allocation: Inherited { handle, has_slurm_steps },
            ends_at: survey.ends_at(),
            observe: Box::new(move || {
                let allocation = allocation.clone();
                Box::pin(async move { allocation.observe_state(now()).await })
            }),
        };
        let options = RunOptions {
            nodes: survey.nodes().to_vec(),
            labels: host::labels(args),
            scheduler: args.scheduler.as_deref().map(Box::from),
            ends_at: host::end(args),
            max_parallel_jobs: args.max_parallel_jobs.or(args.slots.map(NonZeroU32::get)),
            inside: Some(inside),
        };
        let scratch = dir.scratch();
        let steps = Box::new(Steps { survey, env, scratch });
        let place = if has_slurm_steps { Place::Steps(steps) } else { Place::Crew(steps) };
        Ok(Self { options, place, launcher: None })
    }
}

impl Place {
    /// What stands for the schedulers of a spec.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Host { .. } => "this machine".to_owned(),
            Self::Steps(steps) | Self::Crew(steps) => steps.name(),
            Self::Guest { guest, .. } => format!("plugin `{}`", guest.name()),
        }
    }

    /// Whether it is Slurm's.
    pub(crate) fn is_in_slurm(&self) -> bool {
        match self {
            Self::Host { .. } => false,
            Self::Steps(_) | Self::Crew(_) => true,
            Self::Guest { is_inside, .. } => *is_inside,
        }
    }

    /// Whether somebody there starts ranks, or tells those who start them how many there are to be.
    pub(crate) fn has_ranks(&self) -> bool {
        !matches!(self, Self::Host { .. })
    }

    /// The plugin that launches steps there, if one does.
    pub(crate) fn guest(&self) -> Option<Arc<Guest>> {
        match self {
            Self::Guest { guest, .. } => Some(Arc::clone(guest)),
            _ => None,
        }
    }

    /// Whether nodes take as many jobs at once as actions say.
    pub(crate) fn has_slots(&self) -> bool {
        matches!(self, Self::Crew(_) | Self::Guest { is_inside: true, .. })
    }

    /// Says where jobs run, if that is inside an allocation.
    pub(crate) fn announce(&self) {
        match self {
            Self::Host { why: None, .. } => {}
            Self::Host { why: Some(why), .. } => errln!("note: {}", why.sentence()),
            Self::Steps(steps) | Self::Crew(steps) => errln!("note: {}", steps.sentence()),
            Self::Guest { guest, .. } => {
                let names: Vec<&str> = guest.nodes().iter().map(|node| &*node.name).collect();
                let (name, names) = (guest.name(), hostlist::compress(&names));
                errln!("note: plugin `{name}` runs the jobs, on {names}");
            }
        }
    }

    /// Starts what launches the steps of a run.
    pub(crate) async fn start(
        self,
        start: Start<'_>,
        launcher: Option<Arc<dyn Launcher>>,
    ) -> Result<Launching, ExecutorError> {
        let Some(launcher) = launcher else { return self.start_bare(start).await };
        let folders = LaunchFolders::new(self.scratch(), start.events);
        let start = Start { events: folders.clone(), ..start };
        let launching = self.start_bare(start).await?;
        let executor = Arc::new(Launched::new(launching.executor, launcher, folders));
        Ok(Launching { executor, ..launching })
    }

    fn scratch(&self) -> PathBuf {
        match self {
            Self::Host { config, .. } => config.scratch_dir.clone(),
            Self::Steps(steps) | Self::Crew(steps) => steps.scratch.clone(),
            Self::Guest { scratch, .. } => scratch.clone(),
        }
    }

    async fn start_bare(self, start: Start<'_>) -> Result<Launching, ExecutorError> {
        match self {
            Self::Host { config, .. } => {
                let executor = Arc::new(LocalExecutor::start(*config, start.events)?);
                Ok(Launching { executor, wind_up: None, release: None, on_node: None })
            }
            Self::Steps(steps) => steps.start(start).await,
            Self::Crew(steps) => steps.start_crew(start).await,
            Self::Guest { guest, is_inside, .. } => {
                guest.report_to(start.events);
                Ok(match is_inside {
                    true => launching(guest, |guest| async move { guest.wind_up().await }),
                    false => Launching::by(guest),
                })
            }
        }
    }
}

impl Steps {
    fn name(&self) -> String {
        format!("Slurm job {}", self.survey.allocation().job())
    }

    fn sentence(&self) -> String {
        let names: Vec<&str> = self.survey.nodes().iter().map(|node| &*node.name).collect();
        let nodes = match names.as_slice() {
            [_] => "the node".to_owned(),
            several => format!("the {} nodes", several.len()),
        };
        format!("jobs run on {nodes} of {}: {}", self.name(), hostlist::compress(&names))
    }

    async fn start(self, start: Start<'_>) -> Result<Launching, ExecutorError> {
        let Start { allocation, execution, events, .. } = start;
        let mut config = SlurmConfig::new(allocation, self.scratch, self.env);
        config.max_parallel_steps = execution.max_parallel_steps.unwrap_or(USUAL_PARALLEL_STEPS);
        config.headroom = Duration::from_secs(execution.sigkill_headroom_seconds);
        let executor = Arc::new(SlurmExecutor::start_in(self.survey, config, events).await?);
        Ok(launching(executor, |executor| async move { executor.wind_up().await }))
    }

    async fn start_crew(self, start: Start<'_>) -> Result<Launching, ExecutorError> {
        let Start { allocation, execution, events, .. } = start;
        let leading = Leading {
            allocation,
            scratch: self.scratch,
            srun_mpi: execution.srun_mpi.clone(),
            staggered: execution.staggered_start,
            headroom: execution.stop_margin(false),
        };
        let crew = lead_crew(self.survey, self.env, leading, events).await?;
        let releasing = Arc::clone(&crew);
        Ok(Launching {
            on_node: Some(on_node(crew.clone())),
            release: Some(Box::new(move |node, parting| releasing.release(node, parting))),
            ..launching(crew, |crew| async move { crew.wind_up().await })
        })
    }
}

/// What launches the steps of a run, with the way in which it comes to its end.
fn launching<E, F>(executor: Arc<E>, wind_up: fn(Arc<E>) -> F) -> Launching
where
    E: Executor + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let ending = Arc::clone(&executor);
    let wind_up: WindUp = Arc::new(move || Box::pin(wind_up(Arc::clone(&ending))));
    Launching { executor, wind_up: Some(wind_up), release: None, on_node: None }
}

impl Why {
    fn sentence(&self) -> String {
        let reason = match self.reason {
            Reason::Option(option) => format!("{option} is about this machine"),
            Reason::IsPartOfJob => "this run is part of a job of another one".to_owned(),
        };
        format!(
            "{reason}, so jobs run on this host only, and on no other node of Slurm job {}",
            self.job
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        resources: ResourceArgs,
    }

    /// What is chosen for a run with these options, mode and variables.
    fn choose(options: &[&str], mode: ExecutionMode, env: &[(&str, &str)]) -> Choice {
        let words = std::iter::once(&"torc").chain(options);
        let line = Line::try_parse_from(words).expect("they make sense");
        let get = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Signs::read(&line.resources, mode, get).choose()
    }

    const INSIDE: (&str, &str) = ("SLURM_JOB_ID", "41");

    #[test]
    fn outside_an_allocation_jobs_run_here() {
        for mode in [ExecutionMode::Auto, ExecutionMode::Slurm, ExecutionMode::Direct] {
            assert_eq!(choose(&[], mode, &[]), Choice::Host(None));
            assert_eq!(
                choose(&["--nodes", "2"], mode, &[("SLURM_JOB_ID", "")]),
                Choice::Host(None)
            );
            assert_eq!(choose(&[], mode, &[("TORC_JOB_ID", "1")]), Choice::Host(None));
        }
    }

    #[test]
    fn inside_an_allocation_jobs_run_on_its_nodes() {
        for mode in [ExecutionMode::Auto, ExecutionMode::Slurm] {
            assert_eq!(choose(&[], mode, &[INSIDE]), Choice::Steps);
            let others = ["--max-parallel-jobs", "3", "--time-limit", "1h", "--label", "big"];
            assert_eq!(choose(&others, mode, &[INSIDE]), Choice::Steps);
        }
        assert_eq!(choose(&[], ExecutionMode::Direct, &[INSIDE]), Choice::Crew);
    }

    #[test]
    fn what_keeps_a_run_on_its_host_is_told() {
        #[track_caller]
        fn check(options: &[&str], mode: ExecutionMode, env: &[(&str, &str)], reason: Reason) {
            let why = Why { job: "41".to_owned(), reason };
            assert_eq!(choose(options, mode, env), Choice::Host(Some(why)));
        }
        let auto = ExecutionMode::Auto;
        check(&["--nodes", "1"], auto, &[INSIDE], Reason::Option("--nodes"));
        check(&["--num-cpus", "4", "--pin"], auto, &[INSIDE], Reason::Option("--num-cpus"));
        check(&["--memory-gb", "4"], auto, &[INSIDE], Reason::Option("--memory-gb"));
        check(&["--num-gpus", "0"], auto, &[INSIDE], Reason::Option("--num-gpus"));
        check(&["--pin"], ExecutionMode::Direct, &[INSIDE], Reason::Option("--pin"));
        for name in OF_TORC {
            let env = [INSIDE, (name, "1")];
            check(&[], ExecutionMode::Slurm, &env, Reason::IsPartOfJob);
            check(&["--num-cpus", "4"], auto, &env, Reason::IsPartOfJob);
        }
    }

    #[test]
    fn the_reason_is_a_sentence() {
        let why = Why { job: "41".to_owned(), reason: Reason::Option("--num-cpus") };
        assert_eq!(
            why.sentence(),
            "--num-cpus is about this machine, so jobs run on this host only, and on no other node of \
             Slurm job 41"
        );
    }
}
