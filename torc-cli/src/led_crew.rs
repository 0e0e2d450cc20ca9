//! A crew in the Slurm allocation that this process is in: its parts put together.
//!
//! Decides nothing. What Slurm tells, of the workers through their srun and of the nodes when it is asked, is
//! passed on to the crew.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use torc_core::ids::AllocationId;
use torc_core::resources::NodeInventory;
use torc_core::time::Timestamp;
use torc_core::traits::StepEvents;
use torc_executors::clock::now;
use torc_executors::direct::{Muster, MusterConfig, MusterEvent, Traces, end_steps_of};
use torc_executors::slurm::{Sight, SlurmAllocation, Standing, watch};
use torc_server::crew::{Crew, CrewParts, News, Overseer, Post};

use crate::exit::{Exit, Failure};
use crate::out::errln;

/// What a crew is led with.
pub(crate) struct Leading {
    /// The engine's number of the allocation.
    pub(crate) allocation: AllocationId,
    /// A folder of its own, on a file system that all nodes share.
    pub(crate) scratch: PathBuf,
    /// How the workers are started, as `srun --mpi` has it.
    pub(crate) srun_mpi: Option<String>,
    /// Jobs are asked to end this long before the allocation ends, if nobody has asked them by then.
    pub(crate) headroom: Duration,
    /// The folder that has Slurm's programs; `None`: PATH.
    pub(crate) programs: Option<PathBuf>,
}

/// A crew whose workers are being started, and what is known of its allocation.
pub(crate) struct LedCrew {
    pub(crate) crew: Arc<Crew>,
    pub(crate) allocation: SlurmAllocation,
    pub(crate) began_at: Option<Timestamp>,
    pub(crate) ends_at: Option<Timestamp>,
}

impl LedCrew {
    /// Looks at the allocation, and starts a worker on each of its nodes.
    pub(crate) async fn start(
        leading: Leading,
        events: Arc<dyn StepEvents>,
    ) -> Result<Self, Failure> {
        let environment = |error: &dyn std::fmt::Display| Failure::new(Exit::Environment, error);
        let env: Vec<_> = std::env::vars_os().collect();
        let allocation = SlurmAllocation::of(&env, leading.programs.clone())
            .map_err(|error| environment(&error))?;
        let job = allocation.observe().await.map_err(|error| environment(&error))?;
        let nodes = allocation.inventory(&job).await.map_err(|error| environment(&error))?;
        std::fs::create_dir_all(&leading.scratch)
            .map_err(|error| environment(&format!("{}: {error}", leading.scratch.display())))?;
        let post = Post::open(&leading.scratch, &nodes).map_err(|error| environment(&error))?;
        let (told, news) = unbounded_channel();
        let config = MusterConfig {
            allocation: allocation.clone(),
            nodes: nodes.clone(),
            command: command(&leading, &post, &allocation)?,
            srun_mpi: leading.srun_mpi.clone(),
            base_env: env,
            scratch_dir: leading.scratch.clone(),
            umask: None,
            keeper_program: None,
        };
        let muster = Muster::start(config, told).await.map_err(|error| environment(&error))?;
        let muster = Arc::new(muster);
        let overseer = Slurm {
            allocation: allocation.clone(),
            muster: muster.clone(),
            scratch: leading.scratch.clone(),
        };
        let names = nodes.iter().map(|node| node.name.to_string()).collect();
        let listener = Listener {
            nodes: nodes.clone(),
            failed: HashSet::new(),
            muster,
            headroom: leading.headroom,
        };
        let parts =
            CrewParts { allocation: leading.allocation, nodes, post, overseer: Arc::new(overseer) };
        let crew = Arc::new(Crew::start(parts, events));
        let (began_at, ends_at) = (job.began_at, job.ends_at);
        let (see, sights) = unbounded_channel();
        tokio::spawn(watch(allocation.clone(), names, ends_at, see));
        tokio::spawn(listener.pass_on(Arc::downgrade(&crew), news, sights));
        crew.hear(News::TimeIsUpAt(before(ends_at, leading.headroom)));
        Ok(Self { crew, allocation, began_at, ends_at })
    }
}

/// What srun starts on each node.
fn command(
    leading: &Leading,
    post: &Post,
    allocation: &SlurmAllocation,
) -> Result<Vec<String>, Failure> {
    let environment = |error: &dyn std::fmt::Display| Failure::new(Exit::Environment, error);
    let program = std::env::current_exe().map_err(|error| environment(&error))?;
    let srun = allocation.programs().find("srun").map_err(|error| environment(&error))?;
    let text = |path: PathBuf| {
        path.into_os_string().into_string().map_err(|path| {
            let path = PathBuf::from(path);
            environment(&format!("{} cannot be used: it is not valid UTF-8", path.display()))
        })
    };
    Ok(vec![
        text(program)?,
        "node-worker".to_owned(),
        "--access".to_owned(),
        text(post.file().to_path_buf())?,
        "--scratch".to_owned(),
        text(leading.scratch.clone())?,
        "--srun".to_owned(),
        text(srun)?,
    ])
}

/// Hears what Slurm tells of the workers and their nodes.
struct Listener {
    nodes: Vec<NodeInventory>,
    /// Those that could not be reached, or have failed.
    failed: HashSet<String>,
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
                Some(sight) = sights.recv() => match sight {
                    Sight::Node { node, state, words } => News::NodeIs { node, state, words },
                    Sight::EndsAt(at) => News::TimeIsUpAt(before(at, self.headroom)),
                },
                else => return,
            };
            let Some(crew) = crew.upgrade() else { return };
            let again = match &news {
                News::StartedAgain { nodes } => self.inventories(nodes),
                _ => Vec::new(),
            };
            crew.hear(news);
            if let Err(error) = self.muster.start_on(&again) {
                errln!("the workers of the nodes cannot be started again: {error}");
            }
        }
    }

    fn news_of(&mut self, event: MusterEvent) -> News {
        match event {
            MusterEvent::TaskEnded { nodes, words } => News::WorkersEnded { nodes, words },
            MusterEvent::NodesFailed { nodes, words } => {
                self.failed.extend(nodes.iter().cloned());
                News::NodesFailed { nodes, words }
            }
            MusterEvent::Ended { nodes, words, is_aborted } => {
                let all = nodes.len();
                let good: Vec<String> =
                    nodes.iter().filter(|node| !self.failed.contains(*node)).cloned().collect();
                // Each time one node fewer is tried.
                if is_aborted && good.len() < all && !good.is_empty() {
                    News::StartedAgain { nodes: good }
                } else {
                    News::WorkersEnded { nodes, words }
                }
            }
        }
    }

    fn inventories(&self, names: &[String]) -> Vec<NodeInventory> {
        let is_named = |node: &&NodeInventory| names.iter().any(|name| **name == *node.name);
        self.nodes.iter().filter(is_named).cloned().collect()
    }
}

fn before(end: Option<Timestamp>, headroom: Duration) -> Option<Timestamp> {
    let millis = u64::try_from(headroom.as_millis()).unwrap_or(u64::MAX);
    end.map(|end| Timestamp(end.0.saturating_sub(millis)))
}

/// Slurm, as far as a crew needs it.
struct Slurm {
    allocation: SlurmAllocation,
    muster: Arc<Muster>,
    /// A folder that scripts may be left in.
    scratch: PathBuf,
}

#[async_trait]
impl Overseer for Slurm {
    async fn standing(&self) -> Standing {
        self.allocation.standing(now()).await.0
    }

    async fn clear(&self, jobs: &[Traces]) {
        end_steps_of(&self.allocation, jobs).await;
    }

    async fn keep_only(&self, nodes: &[String]) {
        match self.allocation.keep_only(nodes, self.scratch.clone()).await {
            Ok(()) => errln!("all nodes but these were given back: {}", nodes.join(", ")),
            Err(error) => errln!("nodes could not be given back: {error}"),
        }
    }

    async fn end_workers(&self) {
        self.muster.end().await;
    }
}
