//! A crew on the hosts of an allocation that is not Slurm's: its parts put together.
//!
//! Which hosts there are and how a worker is started on one was said by the plugin of the scheduler. Nothing else is
//! asked of it: a host is lost when its worker is, and the end of the allocation is what the server says.

use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use torc_core::ids::AllocationId;
use torc_core::time::Timestamp;
use torc_core::traits::{ExecutorError, StepEvents};
use torc_executors::direct::{CrewFolder, Traces, remove_abandoned};
use torc_executors::hosts::{
    Granted, HostEnded, HostMuster, HostMusterConfig, StartTemplate, write_agent,
};
use torc_executors::slurm::Standing;
use torc_server::crew::{Crew, CrewParts, HELPERS, News, Overseer, Post};

use crate::led_crew::before;
use crate::out::errln;

/// In the crew's folder: what is called like rsh.
pub(crate) const AGENT: &str = "rsh";

/// A job that fails may have been killed with its allocation: then this process has been, too, before that time.
const KILLED_WITHIN: Duration = Duration::from_secs(1);

/// What a crew on hosts is led with.
pub(crate) struct HostLeading {
    /// The engine's number of the allocation.
    pub(crate) allocation: AllocationId,
    /// The scheduler's name for it.
    pub(crate) handle: String,
    /// The hosts; this process is on the first.
    pub(crate) hosts: Vec<Granted>,
    /// How a command is started on the others.
    pub(crate) start: StartTemplate,
    /// A folder on a file system that all hosts share. The crew makes its own in it, and removes it when it ends.
    pub(crate) scratch: PathBuf,
    /// Jobs are asked to end this long before the allocation ends, if nobody has asked them by then.
    pub(crate) headroom: Duration,
    /// When that is.
    pub(crate) ends_at: watch::Receiver<Timestamp>,
}

/// Starts a worker on each host, from this environment.
///
/// # Errors
/// When the workers could not come in, or not be started.
pub(crate) fn lead_hosts(
    leading: HostLeading,
    env: Vec<(OsString, OsString)>,
    events: Arc<dyn StepEvents>,
) -> Result<Arc<Crew>, ExecutorError> {
    let HostLeading { hosts, start, scratch, headroom, ends_at, .. } = leading;
    remove_abandoned(&scratch);
    let folder = CrewFolder::make(&scratch, &of_name(&leading.handle))?;
    let nodes: Vec<_> = hosts.iter().map(Granted::unseen).collect();
    let post = Post::open(folder.path(), &nodes).map_err(not_started)?;
    let program = text(&std::env::current_exe().map_err(not_started)?)?;
    let access = text(post.file())?;
    prepare(folder.path(), &program, &access).map_err(|error| {
        not_started(format!("cannot write into {}: {error}", folder.path().display()))
    })?;
    let command = vec![
        program,
        "node-worker".to_owned(),
        "--access".to_owned(),
        access,
        "--scratch".to_owned(),
        text(folder.path())?,
    ];
    let scratch_dir = folder.path().join("leader");
    let config = HostMusterConfig { hosts, start, command, base_env: env, scratch_dir };
    let (told, ends) = unbounded_channel();
    let muster = HostMuster::start(config, told)?;
    let overseer = Hosts { muster, folder: Mutex::new(folder) };
    let parts = CrewParts {
        allocation: leading.allocation,
        nodes,
        are_unseen: true,
        post,
        overseer: Arc::new(overseer),
    };
    let crew = Arc::new(Crew::start(parts, events));
    tokio::spawn(pass_on(Arc::downgrade(&crew), ends, (ends_at, headroom)));
    Ok(crew)
}

/// Makes what jobs on several hosts need: a program that is called like rsh, and a folder for what is said there.
fn prepare(folder: &Path, program: &str, access: &str) -> io::Result<()> {
    std::fs::create_dir(folder.join(HELPERS))?;
    let command = [program, "node-start", "--access", access, "--"].map(str::to_owned);
    write_agent(&folder.join(AGENT), &command)
}

/// Tells the crew of ends of workers, and of the end of the allocation, until it is gone.
async fn pass_on(
    crew: Weak<Crew>,
    mut ends: UnboundedReceiver<HostEnded>,
    (mut ends_at, headroom): (watch::Receiver<Timestamp>, Duration),
) {
    // The end that is known at the start is told, too.
    ends_at.mark_changed();
    loop {
        let news = tokio::select! {
            Some(HostEnded { host, words }) = ends.recv() => {
                errln!("the worker of {host} has ended: {words}");
                News::WorkersEnded { nodes: vec![host.into()], words }
            }
            Ok(()) = ends_at.changed() => {
                News::TimeIsUpAt(before(Some(*ends_at.borrow_and_update()), headroom))
            }
            else => return,
        };
        let Some(crew) = crew.upgrade() else { return };
        crew.hear(news);
    }
}

fn not_started(error: impl Display) -> ExecutorError {
    ExecutorError::NotStarted(error.to_string())
}

fn text(path: &Path) -> Result<String, ExecutorError> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        not_started(format!("{} cannot be used: it is not valid UTF-8", path.display()))
    })
}

/// A scheduler's name for an allocation as a part of the name of a folder.
fn of_name(handle: &str) -> String {
    let plain = |sign: char| if sign.is_ascii_alphanumeric() { sign } else { '-' };
    handle.chars().map(plain).collect()
}

/// What becomes of the allocation, as far as can be known on its hosts.
struct Hosts {
    muster: HostMuster,
    folder: Mutex<CrewFolder>,
}

impl Hosts {
    fn folder(&self) -> MutexGuard<'_, CrewFolder> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Overseer for Hosts {
    async fn standing(&self) -> Standing {
        tokio::time::sleep(KILLED_WITHIN).await;
        Standing::Lives
    }

    async fn clear(&self, _: &[Traces]) {
        // What jobs start on other hosts is known to the crew, and ends with them.
    }

    async fn keep_only(&self, _: &[String]) -> bool {
        // Nobody was told how: no host is ever asked to be given back.
        false
    }

    async fn end_workers(&self) {
        self.muster.end().await;
        self.folder().remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_an_allocation_is_a_part_of_a_file_name() {
        assert_eq!(of_name("4711"), "4711");
        assert_eq!(of_name("12[3].site/x"), "12-3--site-x");
    }
}
