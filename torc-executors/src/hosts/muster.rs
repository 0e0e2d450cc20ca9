//! Starts a worker on each host of an allocation, and tells when one has ended.
//!
//! What starts them are children of a keeper, so that none outlives this program. What it or a worker says on
//! standard error goes into the log. It knows nothing of what the workers do.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use torc_core::ids::{AttemptId, JobId, RunId, StepId, WorkflowId};
use torc_core::time::Timestamp;
use torc_core::traits::{Outcome, StepEvent, StepSignal};

use super::granted::Granted;
use super::start::StartTemplate;
use crate::keeper::wire::Order;
use crate::kept::{Audience, Custody, Entry, Hostfiles, Memory, Setup, StartError};

/// Time between SIGTERM and SIGKILL for what started a worker.
const LEAD: Duration = Duration::from_secs(10);

/// How long workers that have nothing more to do may take to end.
const PEACE: Duration = Duration::from_secs(5);

/// What the workers of an allocation are started with.
#[derive(Clone, Debug)]
pub struct HostMusterConfig {
    /// The hosts; this process is on the first.
    pub hosts: Vec<Granted>,
    /// How a command is started on the others.
    pub start: StartTemplate,
    /// The worker: a program and its arguments, to which are added the name of its host and the CPUs that it has there.
    pub command: Vec<String>,
    /// The environment of what starts them.
    pub base_env: Vec<(OsString, OsString)>,
    /// A folder that no executor uses; made if it is missing.
    pub scratch_dir: PathBuf,
}

/// The worker of a host has ended, or could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEnded {
    /// The host.
    pub host: Box<str>,
    /// How, and what it said last.
    pub words: String,
}

/// The workers of the hosts of an allocation.
///
/// Dropping it ends them all; so does the end of this program, however it comes about.
pub struct HostMuster {
    custody: Custody,
}

impl fmt::Debug for HostMuster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keeper = self.custody.keeper;
        f.debug_struct("HostMuster").field("keeper", &keeper).finish_non_exhaustive()
    }
}

impl HostMuster {
    /// Starts a keeper and the workers, and a task on the current runtime that tells. The end of each is told once;
    /// nobody need listen.
    ///
    /// # Errors
    /// When the keeper cannot be started or is gone at once.
    pub fn start(
        config: HostMusterConfig,
        told: UnboundedSender<HostEnded>,
    ) -> Result<Self, StartError> {
        let hostfiles = Hostfiles::prepare(config.scratch_dir, &[])?;
        let setup = Setup { env: &config.base_env, umask: None, keeper_program: None };
        let hosts = config.hosts.iter().map(|host| host.name.clone()).collect();
        let hub = Hub { hosts, last: Mutex::default(), told };
        let custody = Custody::start(&setup, hostfiles, Arc::new(hub))?;
        for (place, host) in config.hosts.iter().enumerate() {
            let mut command = config.command.clone();
            command.extend(["--host".to_owned(), host.name.to_string()]);
            command.extend(
                host.cpus.into_iter().flat_map(|cpus| ["--cpus".to_owned(), cpus.to_string()]),
            );
            let argv = if place == 0 { command } else { config.start.argv(&host.name, &command) };
            let entry = custody.enter(id_of(place), Memory::Unmeasured, false);
            let entry = entry.map_err(|error| StartError::KeeperFailed(error.to_string()))?;
            // Its name is new, and nobody has asked for the end yet.
            let Entry::New(key) = entry else { continue };
            custody.send(&Order::of_launcher(key, argv, LEAD)).map_err(StartError::KeeperFailed)?;
        }
        Ok(Self { custody })
    }

    /// Ends the workers, and returns when nothing of what started them is left.
    pub async fn end(&self) {
        let keys = self.custody.wind_up();
        if tokio::time::timeout(PEACE, self.custody.emptied()).await.is_err() {
            for key in keys {
                // An error means that the keeper is gone, and all that it kept.
                let _ = self.custody.send(&Order::Signal { key, signal: StepSignal::Cancel });
            }
            self.custody.emptied().await;
        }
        self.custody.shutdown().await;
    }
}

/// The name by which the keeper knows the worker of the host at a place: numbers begin with 1.
fn id_of(place: usize) -> StepId {
    let job = JobId(u32::try_from(place + 1).unwrap_or(u32::MAX));
    StepId { workflow: WorkflowId(1), job, run: RunId(1), attempt: AttemptId::FIRST }
}

/// Passes on what becomes of the workers.
struct Hub {
    hosts: Vec<Box<str>>,
    /// What was said last for each host.
    last: Mutex<BTreeMap<usize, String>>,
    told: UnboundedSender<HostEnded>,
}

impl Hub {
    fn last(&self) -> MutexGuard<'_, BTreeMap<usize, String>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(step: StepId) -> Option<usize> {
        usize::try_from(step.job.0).ok()?.checked_sub(1)
    }
}

impl Audience for Hub {
    fn emit(&self, event: StepEvent) {
        let StepEvent::Ended { step, outcome, .. } = event else { return };
        let Some(place) = Self::place(step) else { return };
        let Some(host) = self.hosts.get(place).cloned() else { return };
        let how = in_words(&outcome);
        let words = match self.last().remove(&place) {
            Some(last) => format!("{how}: {last}"),
            None => how,
        };
        // Nobody need listen.
        let _ = self.told.send(HostEnded { host, words });
    }

    fn hear(&self, step: StepId, _at: Timestamp, lines: Vec<String>) {
        let Some(place) = Self::place(step) else { return };
        let host = self.hosts.get(place).map_or("?", |host| host);
        for line in lines {
            tracing::info!(host, "{line}");
            if !line.trim().is_empty() {
                self.last().insert(place, line);
            }
        }
    }
}

fn in_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { code } => format!("it exited with code {code}"),
        Outcome::Signaled { signal } => format!("it was ended by signal {signal}"),
        Outcome::LaunchFailed { reason, .. } => format!("it was not started: {reason}"),
        Outcome::Cancelled => "it was asked to end".to_owned(),
        _ => "it is gone".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::unbounded_channel;

    #[test]
    fn an_end_is_told_with_the_last_words() {
        let (told, mut ends) = unbounded_channel();
        let hosts = ["n1", "n2"].map(Box::from).to_vec();
        let hub = Hub { hosts, last: Mutex::default(), told };
        let end = |place, outcome| StepEvent::Ended {
            step: id_of(place),
            at: Timestamp(1),
            outcome,
            usage: torc_core::traits::Usage::default(),
        };
        hub.hear(id_of(1), Timestamp(1), vec!["no route".to_owned(), " ".to_owned()]);
        hub.emit(end(1, Outcome::Exited { code: 1 }));
        hub.emit(end(0, Outcome::Signaled { signal: 9 }));
        let mut next = || ends.try_recv().ok().map(|end| (end.host, end.words));
        let first = ("n2".into(), "it exited with code 1: no route".to_owned());
        assert_eq!(next(), Some(first));
        assert_eq!(next(), Some(("n1".into(), "it was ended by signal 9".to_owned())));
        assert_eq!(next(), None);
    }
}
