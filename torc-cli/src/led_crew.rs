//! A crew in the Slurm allocation that this process is in: its parts put together.
//!
//! What Slurm tells, of the workers through their srun and of the nodes when it is asked, is passed on to the crew.
//! Does not know where workers are started again: that is decided in [`Restarts`], which is told which nodes are bad.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use torc_core::ids::AllocationId;
use torc_core::resources::NodeInventory;
use torc_core::time::Timestamp;
use torc_core::traits::{ExecutorError, NodeState, StepEvents};
use torc_executors::clock::now;
use torc_executors::direct::{
    CrewFolder, Muster, MusterConfig, MusterEvent, Restart, Restarts, Traces, clear_earlier,
    end_orphaned_workers, end_steps_of, remove_abandoned,
};
use torc_executors::slurm::{
    Sight, SlurmAllocation, SlurmSurvey, Standing, Watched, hostlist, watch,
};
use torc_server::crew::{Crew, CrewParts, News, Overseer, Post};

use crate::out::errln;

/// What a crew is led with.
pub(crate) struct Leading {
    /// The engine's number of the allocation.
    pub(crate) allocation: AllocationId,
    /// A folder on a file system that all nodes share. The crew makes its own in it, and removes it when it ends.
    pub(crate) scratch: PathBuf,
    /// How the workers are started, as `srun --mpi` has it.
    pub(crate) srun_mpi: Option<String>,
    /// Whether the workers come one after the other.
    pub(crate) staggered: bool,
    /// Jobs are asked to end this long before the allocation ends, if nobody has asked them by then.
    pub(crate) headroom: Duration,
}

/// Starts a worker on each node of an allocation that was looked at, from this environment.
///
/// # Errors
/// When the workers could not come in, or not be started.
pub(crate) async fn lead_crew(
    survey: SlurmSurvey,
    env: Vec<(OsString, OsString)>,
    leading: Leading,
    events: Arc<dyn StepEvents>,
) -> Result<Arc<Crew>, ExecutorError> {
    let (allocation, nodes) = (survey.allocation().clone(), survey.nodes().to_vec());
    clear_earlier(&allocation, &leading.scratch).await;
    remove_abandoned(&leading.scratch);
    let folder = CrewFolder::make(&leading.scratch, allocation.job())?;
    let post = Post::open(folder.path(), &nodes).map_err(not_started)?;
    let (told, news) = unbounded_channel();
    let config = MusterConfig {
        allocation: allocation.clone(),
        nodes: nodes.clone(),
        command: command(&leading, &folder, &post, &allocation)?,
        srun_mpi: leading.srun_mpi.clone(),
        base_env: env,
        scratch_dir: folder.path().to_path_buf(),
        umask: None,
        keeper_program: None,
    };
    let muster = Arc::new(Muster::start(config, told).await?);
    let names = nodes.iter().map(|node| node.name.to_string()).collect();
    let listener = Listener {
        allocation: allocation.clone(),
        nodes: nodes.clone(),
        restarts: Restarts::default(),
        starting: JoinSet::new(),
        muster: muster.clone(),
        headroom: leading.headroom,
    };
    let overseer = Slurm { allocation: allocation.clone(), muster, folder: Mutex::new(folder) };
    let parts = CrewParts {
        allocation: leading.allocation,
        nodes,
        are_unseen: false,
        post,
        overseer: Arc::new(overseer),
    };
    let crew = Arc::new(Crew::start(parts, events));
    let (ends_at, headroom) = (survey.ends_at(), leading.headroom);
    let (see, sights) = unbounded_channel();
    tokio::spawn(watch(Watched { allocation, nodes: names, ends_at, headroom }, see));
    tokio::spawn(listener.pass_on(Arc::downgrade(&crew), news, sights));
    crew.hear(News::TimeIsUpAt(before(ends_at, headroom)));
    Ok(crew)
}

fn not_started(error: impl Display) -> ExecutorError {
    ExecutorError::NotStarted(error.to_string())
}

/// What srun starts on each node.
fn command(
    leading: &Leading,
    folder: &CrewFolder,
    post: &Post,
    allocation: &SlurmAllocation,
) -> Result<Vec<String>, ExecutorError> {
    let program = std::env::current_exe().map_err(not_started)?;
    let srun = allocation.programs().find("srun").map_err(not_started)?;
    let text = |path: PathBuf| {
        path.into_os_string().into_string().map_err(|path| {
            let path = PathBuf::from(path);
            not_started(format!("{} cannot be used: it is not valid UTF-8", path.display()))
        })
    };
    let mut words = vec![
        text(program)?,
        "node-worker".to_owned(),
        "--access".to_owned(),
        text(post.file().to_path_buf())?,
        "--scratch".to_owned(),
        text(folder.path().to_path_buf())?,
        "--srun".to_owned(),
        text(srun)?,
    ];
    words.extend(leading.staggered.then(|| "--staggered".to_owned()));
    Ok(words)
}

/// Hears what Slurm tells of the workers and their nodes.
struct Listener {
    allocation: SlurmAllocation,
    nodes: Vec<NodeInventory>,
    restarts: Restarts,
    /// Nodes whose workers are started again, when their time has come.
    starting: JoinSet<Vec<String>>,
    muster: Arc<Muster>,
    headroom: Duration,
}

impl Listener {
    /// Tells the crew of it, until the crew is gone.
    async fn pass_on(
        mut self,
        crew: Weak<Crew>,
        mut events: UnboundedReceiver<MusterEvent>,
        mut sights: UnboundedReceiver<Sight>,
    ) {
        loop {
            let news = tokio::select! {
                Some(event) = events.recv() => self.news_of(event),
                Some(sight) = sights.recv() => vec![self.news_of_sight(sight)],
                Some(Ok(nodes)) = self.starting.join_next() => {
                    self.start_on(&nodes);
                    continue;
                }
                else => return,
            };
            let Some(crew) = crew.upgrade() else { return };
            news.into_iter().for_each(|news| crew.hear(news));
        }
    }

    fn news_of_sight(&mut self, sight: Sight) -> News {
        match sight {
            Sight::Node { node, state, words } => {
                if state == NodeState::Down {
                    self.restarts.leave_out(std::slice::from_ref(&node));
                }
                News::NodeIs { node, state, words }
            }
            Sight::EndsAt(at) => News::TimeIsUpAt(before(at, self.headroom)),
        }
    }

    fn news_of(&mut self, event: MusterEvent) -> Vec<News> {
        match event {
            MusterEvent::TaskEnded { nodes, words } => vec![News::WorkersEnded { nodes, words }],
            MusterEvent::NodesFailed { nodes, words } => {
                self.restarts.leave_out(&nodes);
                vec![News::NodesFailed { nodes, words }]
            }
            MusterEvent::Ended { nodes, words, unstarted, is_aborted } => {
                let Restart { again, after, lost } =
                    self.restarts.decide(&nodes, &unstarted, is_aborted);
                let mut news = Vec::new();
                if !again.is_empty() {
                    self.start_later(again.clone(), after, &words);
                    news.push(News::StartedAgain { nodes: again });
                }
                if !lost.is_empty() {
                    news.push(News::WorkersEnded { nodes: lost, words });
                }
                news
            }
        }
    }

    fn start_later(&mut self, nodes: Vec<String>, after: Duration, words: &str) {
        let list = hostlist::compress(&nodes);
        let when = match after.as_secs() {
            0 => "at once".to_owned(),
            seconds => format!("in {seconds} s"),
        };
        errln!("the workers of {list} did not all start, and are started again {when}: {words}");
        let allocation = self.allocation.clone();
        self.starting.spawn(async move {
            // Otherwise srun has ended its step itself, and a node that does not answer would hold up the rest.
            if !after.is_zero() {
                tokio::time::sleep(after).await;
                end_orphaned_workers(&allocation).await;
            }
            nodes
        });
    }

    /// Starts the workers of nodes that have not failed meanwhile.
    fn start_on(&self, names: &[String]) {
        let names = self.restarts.still_good(names);
        let is_named = |node: &&NodeInventory| names.iter().any(|name| **name == *node.name);
        let nodes: Vec<NodeInventory> = self.nodes.iter().filter(is_named).cloned().collect();
        if let Err(error) = self.muster.start_on(&nodes) {
            errln!("the workers of the nodes cannot be started again: {error}");
        }
    }
}

/// So long before that.
pub(crate) fn before(end: Option<Timestamp>, headroom: Duration) -> Option<Timestamp> {
    let millis = u64::try_from(headroom.as_millis()).unwrap_or(u64::MAX);
    end.map(|end| Timestamp(end.0.saturating_sub(millis)))
}

/// Slurm, as far as a crew needs it.
struct Slurm {
    allocation: SlurmAllocation,
    muster: Arc<Muster>,
    folder: Mutex<CrewFolder>,
}

impl Slurm {
    fn folder(&self) -> MutexGuard<'_, CrewFolder> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Overseer for Slurm {
    async fn standing(&self) -> Standing {
        self.allocation.standing(now()).await.0
    }

    async fn clear(&self, jobs: &[Traces]) {
        let folder = self.folder().path().to_path_buf();
        end_steps_of(&self.allocation, &folder, jobs).await;
    }

    async fn keep_only(&self, nodes: &[String]) -> bool {
        // It is there that scontrol leaves scripts behind.
        let folder = self.folder().path().to_path_buf();
        match self.allocation.keep_only(nodes, folder).await {
            Ok(()) => {
                errln!("all nodes but these were given back: {}", nodes.join(", "));
                true
            }
            Err(error) => {
                errln!("nodes could not be given back: {error}");
                false
            }
        }
    }

    async fn end_workers(&self) {
        self.muster.end().await;
        self.folder().remove();
    }
}
