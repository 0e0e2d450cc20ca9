//! The probe of `torc doctor`: a job of one node that does there what a worker does first.
//!
//! Owns the job, from its request to its end, and what is concluded. A job that Slurm has not started
//! says nothing about the node, and is not mistaken for one that found a closed port.

use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use torc_core::traits::{AllocationHandle, AllocationState, Scheduler};
use torc_executors::slurm::{Answer, Call, CommandError, Programs, SlurmScheduler};
use torc_server::access::Access;
use torc_server::clock::now;
use torc_server::doctor::{FolderSight, NodeSight, Probe, SecondOwner, Trial};
use torc_server::state_dir::StateDir;

use crate::args::DoctorArgs;
use crate::exit::{Exit, Failure};
use crate::finding::Finding;
use crate::interrupts::Interrupts;
use crate::queue;
use crate::settings::{Origin, Setting};

const CHECK: &str = "probe";
/// What a job may take that has been started: its own time limit, and what Slurm needs around it.
const RUN_WITHIN: Duration = Duration::from_secs(180);
/// How long srun may take to notice that its job was cancelled.
const CANCELLED_WITHIN: Duration = Duration::from_secs(10);
/// How long after the job's end its connection may still wait to be taken.
const AFTER_JOB: Duration = Duration::from_secs(1);
/// A clock that differs by more than this confuses ends of allocations.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);

/// What a probe needs to know.
pub(crate) struct Probing<'a> {
    pub(crate) args: &'a DoctorArgs,
    pub(crate) port: &'a Setting<u16>,
    pub(crate) dir: &'a StateDir,
    pub(crate) trial: &'a Trial,
    pub(crate) programs: &'a Programs,
}

/// Who listens.
enum Target {
    Probe(Probe),
    /// The server of this state directory, at these addresses.
    Server(Vec<String>),
}

impl Probing<'_> {
    /// Starts the job and says what it found.
    ///
    /// # Errors
    /// When a person does not want to wait any longer.
    pub(crate) async fn findings(&self) -> Result<Vec<Finding>, Failure> {
        let target = match self.target().await {
            Ok(target) => target,
            Err(finding) => return Ok(vec![finding]),
        };
        let addresses = match &target {
            Target::Probe(probe) => probe.addresses(),
            Target::Server(addresses) => addresses.clone(),
        };
        let sight = match self.run(&addresses).await? {
            Ok(sight) => sight,
            Err(finding) => return Ok(vec![finding]),
        };
        Ok(vec![self.connection(&target, &sight).await, self.folder(&sight), clock(&sight)])
    }

    /// The port that a server will listen on, or does.
    async fn target(&self) -> Result<Target, Finding> {
        let port = self.port.value;
        let error = match Probe::open(port) {
            Ok(probe) => return Ok(Target::Probe(probe)),
            Err(error) => error,
        };
        if error.kind() == ErrorKind::AddrInUse
            && let Ok(Some(owner)) = Access::live_owner(self.dir).await
            && let Some(remote) = owner.remote
        {
            let ending = format!(":{port}");
            let mut addresses = remote.addresses;
            addresses.retain(|address| address.ends_with(&ending));
            // On another host that is somebody else's, and nothing tells.
            let is_local = |address: &String| address.starts_with("127.");
            if !addresses.iter().all(is_local) {
                addresses.retain(|address| !is_local(address));
            }
            if !addresses.is_empty() {
                return Ok(Target::Server(addresses));
            }
        }
        Err(match self.port.origin {
            Origin::BuiltIn => Finding::bad(CHECK, error, "this host must be able to listen"),
            _ => Finding::bad(
                CHECK,
                format!("cannot listen on port {port}: {error}"),
                format!(
                    "server.port is {port} ({}); set it to a port that is free",
                    self.port.origin
                ),
            ),
        })
    }

    /// Runs the job to its end. Within: what it found, or why it found nothing.
    async fn run(&self, addresses: &[String]) -> Result<Result<NodeSight, Finding>, Failure> {
        let patience = self.args.patience;
        let key = format!("torc-probe-{}-{}", std::process::id(), now().0);
        let call = match self.call(&key, addresses) {
            Ok(call) => call,
            Err(finding) => return Ok(Err(finding)),
        };
        // srun waits in the queue; that has a patience of its own.
        let deadline = patience + RUN_WITHIN + CANCELLED_WITHIN + CANCELLED_WITHIN;
        let programs = Programs { deadline, ..self.programs.clone() };
        let mut interrupts = Interrupts::listen()?;
        let job = programs.run(call);
        tokio::pin!(job);
        let scheduler = SlurmScheduler::new(self.programs.clone());
        tokio::select! {
            answer = &mut job => return Ok(read(answer)),
            () = tokio::time::sleep(patience) => {}
            () = interrupts.next() => {
                cancel(&scheduler, &key).await;
                let _ = tokio::time::timeout(CANCELLED_WITHIN, job).await;
                return Err(Failure::silent(Exit::Interrupted));
            }
        }
        let unfinished = match waits(&scheduler, &key).await {
            Some(why) => Finding::warning(
                CHECK,
                format!("its job did not start within {} s: {why}", patience.as_secs()),
                "this says nothing about the nodes: try again when some are idle, choose another \
                 --partition, or give it more --patience",
            ),
            None => match tokio::time::timeout(RUN_WITHIN, &mut job).await {
                Ok(answer) => return Ok(read(answer)),
                Err(_) => Finding::bad(
                    CHECK,
                    "its job was started, but did not end in time",
                    "ask the site why a job of a few seconds takes minutes",
                ),
            },
        };
        cancel(&scheduler, &key).await;
        let _ = tokio::time::timeout(CANCELLED_WITHIN, job).await;
        Ok(Err(unfinished))
    }

    fn call(&self, key: &str, addresses: &[String]) -> Result<Call, Finding> {
        let text = |path: &std::path::Path| path.to_str().map(str::to_owned);
        let program = std::env::current_exe().ok().as_deref().and_then(text);
        let (Some(program), Some(folder)) = (program, text(self.trial.path())) else {
            let help = "move torc to a folder whose name is UTF-8";
            return Err(Finding::bad(CHECK, "where torc itself lies cannot be told", help));
        };
        let option = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("--{name}={value}"))
        };
        let words = ["--nodes=1", "--ntasks=1", "--time=2", "--quiet", "--job-name=torc_probe"];
        let node = [program.as_str(), "doctor", "from-node", "--output-dir", &folder, "--"];
        let words = words
            .map(str::to_owned)
            .into_iter()
            .chain([format!("--comment={key}")])
            .chain(option("account", &self.args.account))
            .chain(option("partition", &self.args.partition))
            .chain(node.map(str::to_owned))
            .chain(addresses.iter().cloned());
        Ok(Call::new("srun", words))
    }

    async fn connection(&self, target: &Target, sight: &NodeSight) -> Finding {
        let has_come = match target {
            Target::Probe(probe) => probe.wait(AFTER_JOB).await.is_some(),
            Target::Server(_) => true,
        };
        let whose = match (target, self.port.value) {
            (Target::Server(_), _) => "the server's port",
            (_, 0) => "a port that was free, as the server's will be",
            _ => "server.port",
        };
        if let Some(address) = sight.reached.as_ref().filter(|_| has_come) {
            return Finding::good(CHECK, format!("{} reached {address}, {whose}", sight.host));
        }
        let refused = sight.refused.iter().map(|(address, reason)| format!("{address}: {reason}"));
        let strange =
            sight.reached.iter().map(|address| format!("{address}: somebody else answers"));
        let tried: Vec<String> = refused.chain(strange).collect();
        let found = format!("{} did not reach this host ({})", sight.host, tried.join("; "));
        let help = match self.port.value {
            0 => {
                "a firewall may keep compute nodes from this host's ports: ask the site for one that \
                 is open, set server.port to it, and try again"
                    .to_owned()
            }
            port => format!(
                "a firewall may keep compute nodes from port {port} of this host: ask the site to \
                 open it, or set server.port to one that is open"
            ),
        };
        Finding::bad(CHECK, found, help)
    }

    fn folder(&self, sight: &NodeSight) -> Finding {
        const CHECK: &str = "state directory";
        const SHARED: &str =
            "choose an --output-dir on a file system that this host and all compute nodes share";
        let (host, dir) = (&sight.host, self.dir.path().display());
        match &sight.folder {
            FolderSight::Missing(reason) => {
                Finding::bad(CHECK, format!("{host} does not see {dir}: {reason}"), SHARED)
            }
            FolderSight::NotWritable(reason) => {
                Finding::bad(CHECK, format!("{host} cannot write below {dir}: {reason}"), SHARED)
            }
            FolderSight::Usable(_) if !self.trial.shows_what_a_node_wrote() => {
                let found = format!("what {host} wrote below {dir} is not seen here");
                Finding::bad(CHECK, found, SHARED)
            }
            FolderSight::Usable(SecondOwner::Refused) => {
                Finding::good(CHECK, format!("{host} sees it, writes there, and respects locks"))
            }
            FolderSight::Usable(SecondOwner::Owned) => Finding::warning(
                CHECK,
                format!(
                    "{host} sees it and writes there, but locks of this host are nothing to it"
                ),
                "start torc for this directory on one host only: two servers on two hosts could \
                 own one database",
            ),
            FolderSight::Usable(SecondOwner::Failed(reason)) => Finding::warning(
                CHECK,
                format!("{host} sees it and writes there; no database can be opened: {reason}"),
                "workers need none; start torc for this directory on this host only",
            ),
        }
    }
}

/// What the job printed: a site may say more before it.
fn read(answer: Result<Answer, CommandError>) -> Result<NodeSight, Finding> {
    let answer = answer.map_err(|error| {
        let is_refused = error.stderr().is_some_and(|words| words.contains("nable to allocate"));
        let help = if is_refused {
            "Slurm refuses the job: --account and --partition may be needed"
        } else {
            "a worker is started in the same way: torc must lie where compute nodes see it, and run \
             there"
        };
        Finding::bad(CHECK, error, help)
    })?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let sight = text.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    sight.ok_or_else(|| {
        let found = format!("what the job said cannot be understood: {}", text.trim());
        Finding::bad(CHECK, found, "the torc on the node must be the same as this one")
    })
}

/// Why the job with this mark waits; `None`: it does not, or nobody knows.
async fn waits(scheduler: &SlurmScheduler, key: &str) -> Option<String> {
    let handle = scheduler.find(key).await.ok()??;
    let state = scheduler.observe(std::slice::from_ref(&handle)).await.ok()?.pop()?;
    let AllocationState::Pending { reason, .. } = state else { return None };
    let place = scheduler.ahead_of(&handle).await.ok().flatten();
    Some(match place {
        Some(place) => {
            format!("{reason} in {}, {}", place.partition, queue::before(place.ahead, place.others))
        }
        None => reason,
    })
}

async fn cancel(scheduler: &SlurmScheduler, key: &str) {
    let found: Option<AllocationHandle> = scheduler.find(key).await.ok().flatten();
    if let Some(handle) = found {
        // Whatever comes of it, srun is ended next.
        let _ = scheduler.cancel(&handle).await;
    }
}

fn clock(sight: &NodeSight) -> Finding {
    let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    compare_clocks("node clock", ours.abs_diff(Duration::from_millis(sight.at.0)), &sight.host)
}

/// What is to be said of a clock that is so far from this host's.
pub(crate) fn compare_clocks(check: &'static str, apart: Duration, whose: &str) -> Finding {
    let found = format!("{} s apart from that of {whose}", apart.as_secs());
    if apart <= CLOCK_TOLERANCE {
        Finding::good(check, found)
    } else {
        Finding::warning(check, found, "synchronise the clocks (chrony or ntpd)")
    }
}
