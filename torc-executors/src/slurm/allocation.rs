//! The allocation that this process runs in: what Slurm says about it and its nodes.
//!
//! Asks; decides nothing and remembers nothing but who it asks about. An answer that fails says nothing
//! about the allocation.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use torc_core::resources::NodeInventory;
use torc_core::time::Timestamp;
use torc_core::traits::{AllocationEnd, AllocationState, ExecutorError};

use super::command::{Call, CommandError, Programs};
use super::inventory::inventory;
use super::outcome::Standing;
use super::show::{self, JobFacts, NodeFacts, ShowError};
use super::states::{self, JobWords};
use super::{hostlist, version};

/// How long to wait before the same is asked again. When Slurm takes an allocation away it asks all that runs
/// in the batch step to end: the question why steps were asked, too.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];

/// MaxStepCount where a site does not set it (slurm.conf(5)).
const DEFAULT_MOST_STEPS: u32 = 40_000;

/// The allocation cannot be used, or cannot be asked about now.
#[derive(Debug, thiserror::Error)]
pub enum AllocationError {
    /// This process is not inside an allocation.
    #[error(
        "SLURM_JOB_ID is not set: this is not inside a Slurm allocation; run it in a batch script or under salloc"
    )]
    NotInside,
    /// Its components are jobs of their own.
    #[error(
        "the allocation is a heterogeneous job (SLURM_HET_SIZE is {0}), whose steps torc cannot place; ask for one kind of nodes only"
    )]
    Heterogeneous(String),
    /// It has no nodes on which anything could start.
    #[error(
        "Slurm job {job}, which SLURM_JOB_ID names, has no nodes for torc to use: it is {state}. If that is over, leave its shell"
    )]
    Over {
        /// Slurm's number of it.
        job: String,
        /// Slurm's word for where it stands.
        state: String,
    },
    /// The release is unknown or too old.
    #[error(transparent)]
    Version(#[from] version::VersionError),
    /// A program of Slurm's did not answer.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// It answered what cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ShowError),
    /// It has nodes, but Slurm does not say what it was given there.
    #[error(
        "Slurm does not show what the allocation was given on its nodes: `scontrol show job -d {0}` has no line with CPU_IDs, and SLURM_JOB_CPUS_PER_NODE does not help"
    )]
    NoGrants(String),
}

impl From<AllocationError> for ExecutorError {
    fn from(error: AllocationError) -> Self {
        Self::Inventory(error.to_string())
    }
}

/// The Slurm allocation that this process runs in.
#[derive(Clone, Debug)]
pub struct SlurmAllocation {
    programs: Programs,
    job: String,
    counts: HashMap<String, u32>,
    is_inside_step: bool,
}

impl SlurmAllocation {
    /// The allocation that an environment tells of: that of the batch script, or of a shell of salloc.
    /// `folder` has Slurm's programs; `None`: they are in PATH.
    ///
    /// # Errors
    /// When it tells of none, or of a heterogeneous one.
    pub fn of(
        env: &[(OsString, OsString)],
        folder: Option<PathBuf>,
    ) -> Result<Self, AllocationError> {
        let get = |name: &str| {
            let found = env.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.to_string_lossy().into_owned())
        };
        let job = get("SLURM_JOB_ID").filter(|id| !id.is_empty());
        let job = job.ok_or(AllocationError::NotInside)?;
        if let Some(size) = get("SLURM_HET_SIZE").filter(|size| size.parse() != Ok(1_u32)) {
            return Err(AllocationError::Heterogeneous(size));
        }
        let nodes = get("SLURM_JOB_NODELIST").unwrap_or_default();
        let counts = get("SLURM_JOB_CPUS_PER_NODE").unwrap_or_default();
        let mut programs = Programs::new(env.to_vec());
        programs.folder = folder;
        let is_inside_step = get("SLURM_STEP_ID").is_some_and(|step| is_of_user(&step));
        Ok(Self { programs, job, counts: cpus_by_node(&nodes, &counts), is_inside_step })
    }

    /// Slurm's number of it.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// How Slurm's programs are run.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    async fn show(&self, args: &[&str]) -> Result<String, CommandError> {
        let answer = self.programs.run(Call::new("scontrol", args.iter().copied())).await?;
        Ok(answer.text()?.to_owned())
    }

    /// The release of Slurm here.
    ///
    /// # Errors
    /// When srun does not say, or is older than torc can work with.
    pub async fn dialect(&self) -> Result<version::Dialect, AllocationError> {
        let answer = self.programs.run(Call::new("srun", ["--version"])).await?;
        Ok(version::Dialect::of(version::Version::parse(answer.text()?)?)?)
    }

    /// What Slurm says about it.
    ///
    /// # Errors
    /// When Slurm cannot be asked now, or knows no such job.
    pub async fn observe(&self) -> Result<JobFacts, AllocationError> {
        Ok(show::job(&self.show(&["show", "job", "-d", &self.job]).await?)?)
    }

    /// When it ends, as of now: walltimes get extended. `None`: it does not end.
    ///
    /// # Errors
    /// When Slurm cannot be asked now, or knows no such job.
    pub async fn observe_end(&self) -> Result<Option<Timestamp>, AllocationError> {
        Ok(self.observe().await?.ends_at)
    }

    /// Where it stands at `now`, with its end as of then. [`Unknown`](AllocationState::Unknown): Slurm cannot
    /// be asked now, which says nothing about it.
    pub async fn observe_state(&self, now: Timestamp) -> AllocationState {
        match self.observe().await {
            Ok(facts) => state(&facts, now),
            Err(AllocationError::Command(error)) if is_unknown_job(&error) => {
                AllocationState::Ended {
                    cause: AllocationEnd::Unknown,
                    reason: "Slurm no longer knows it".to_owned(),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "it is not known where the allocation stands");
                AllocationState::Unknown
            }
        }
    }

    /// Whether this process is part of a step that a user started in it.
    pub(super) fn is_inside_step(&self) -> bool {
        self.is_inside_step
    }

    /// What Slurm says about it, if something could start in it.
    pub(super) async fn observe_usable(&self) -> Result<JobFacts, AllocationError> {
        match self.observe().await {
            Err(AllocationError::Command(error)) if is_unknown_job(&error) => {
                let (job, state) = (self.job.clone(), "unknown to Slurm".to_owned());
                Err(AllocationError::Over { job, state })
            }
            Err(error) => Err(error),
            Ok(facts) => self.refuse_if_over(&facts).map(|()| facts),
        }
    }

    /// An error unless something could start in it, as it was observed.
    fn refuse_if_over(&self, facts: &JobFacts) -> Result<(), AllocationError> {
        match state(facts, Timestamp::default()) {
            AllocationState::Completing | AllocationState::Ended { .. } => {}
            _ if facts.nodes.is_empty() => {}
            _ => return Ok(()),
        }
        Err(AllocationError::Over { job: self.job.clone(), state: facts.state.clone() })
    }

    /// Whether it has fewer nodes, as it was observed, than it was granted.
    pub(super) fn has_lost_nodes(&self, job: &JobFacts) -> bool {
        self.counts.keys().any(|name| !job.nodes.contains(name))
    }

    /// What Slurm says about nodes.
    ///
    /// # Errors
    /// When Slurm cannot be asked now.
    pub async fn observe_nodes(&self, names: &[String]) -> Result<Vec<NodeFacts>, AllocationError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let list = hostlist::compress(names);
        Ok(show::nodes(&self.show(&["show", "node", &list]).await?))
    }

    /// Its nodes, as it was observed, and what was granted on them.
    ///
    /// # Errors
    /// When Slurm cannot be asked now, or does not tell.
    pub async fn inventory(&self, job: &JobFacts) -> Result<Vec<NodeInventory>, AllocationError> {
        let nodes = self.observe_nodes(&job.nodes).await?;
        let found = inventory(job, &nodes, &self.counts);
        if found.len() < job.nodes.len() {
            return Err(AllocationError::NoGrants(self.job.clone()));
        }
        Ok(found)
    }

    /// Gives all nodes but these back. Slurm leaves scripts in the folder, which tell a shell of the new size.
    ///
    /// By their names: a number of nodes alone would end the steps on nodes that Slurm chooses (scontrol(1)).
    ///
    /// # Errors
    /// When Slurm cannot be asked now, or does not allow it.
    pub async fn keep_only(&self, nodes: &[String], folder: PathBuf) -> Result<(), CommandError> {
        let (job, list) = (format!("JobId={}", self.job), hostlist::compress(nodes));
        let call = Call::new("scontrol", ["update", &job, &format!("NodeList={list}")]);
        self.programs.run(Call { folder: Some(folder), ..call }).await.map(drop)
    }

    /// How many steps one job may have here (slurm.conf(5), MaxStepCount).
    ///
    /// # Errors
    /// When Slurm cannot be asked now.
    pub async fn most_steps(&self) -> Result<u32, AllocationError> {
        let config = self.show(&["show", "config"]).await?;
        Ok(show::most_steps(&config).unwrap_or(DEFAULT_MOST_STEPS))
    }

    /// Where it stands at `now`, and the nodes that it still has; `None` for those when that is not known,
    /// or it ends: then one after the other leaves it that is good.
    pub async fn standing(&self, now: Timestamp) -> (Standing, Option<Vec<String>>) {
        let mut pauses = PAUSES.into_iter();
        loop {
            let error = match self.observe().await {
                Ok(facts) => {
                    let standing = standing(&facts, now);
                    let members = (standing == Standing::Lives).then_some(facts.nodes);
                    return (standing, members);
                }
                Err(AllocationError::Command(error)) if is_unknown_job(&error) => {
                    return (Standing::Ended, None);
                }
                Err(error) => error,
            };
            let Some(pause) = pauses.next() else {
                tracing::warn!(%error, "it is not known where the allocation stands");
                return (Standing::Lives, None);
            };
            tokio::time::sleep(pause).await;
        }
    }
}

fn is_unknown_job(error: &CommandError) -> bool {
    error.stderr().is_some_and(|words| words.contains("Invalid job id"))
}

/// Where an allocation was that was observed at `now`. One that is about to be taken away is as good as
/// ended.
fn state(facts: &JobFacts, now: Timestamp) -> AllocationState {
    if facts.is_preempted {
        let reason = "Slurm takes it away for something else".to_owned();
        return AllocationState::Ended { cause: AllocationEnd::Preempted, reason };
    }
    let words = JobWords { state: &facts.state, end: facts.ends_at, ..JobWords::default() };
    match states::read(&words) {
        AllocationState::Running { ends_at: Some(end) } if end <= now => AllocationState::Ended {
            cause: AllocationEnd::TimedOut,
            reason: "its time is up".to_owned(),
        },
        state => state,
    }
}

/// Whether a step of this number is one that srun started at somebody's wish: the batch script, and the shell
/// of an salloc that is started on a node, are steps of another kind, which hold nothing (slurm.h,
/// SLURM_MAX_NORMAL_STEP_ID).
fn is_of_user(step: &str) -> bool {
    const HIGHEST: u32 = 0xffff_fff0;
    step.parse::<u32>().is_ok_and(|number| number <= HIGHEST)
}

/// Where an allocation stood that was observed at `now`.
pub(super) fn standing(facts: &JobFacts, now: Timestamp) -> Standing {
    let is_over = facts.ends_at.is_some_and(|end| end <= now);
    match state(facts, now) {
        AllocationState::Ended { cause: AllocationEnd::Preempted, .. } => Standing::Preempted,
        AllocationState::Ended { .. } | AllocationState::Completing => Standing::Ended,
        _ if is_over => Standing::Ended,
        _ => Standing::Lives,
    }
}

/// The CPUs by node, from SLURM_JOB_NODELIST and SLURM_JOB_CPUS_PER_NODE; empty when these do not fit.
fn cpus_by_node(nodes: &str, counts: &str) -> HashMap<String, u32> {
    let nodes = hostlist::expand(nodes, hostlist::MOST_NODES).unwrap_or_default();
    let counts = hostlist::cpus_per_node(counts, hostlist::MOST_NODES).unwrap_or_default();
    if nodes.len() != counts.len() {
        return HashMap::new();
    }
    nodes.into_iter().zip(counts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn the_environment_tells_of_the_allocation() {
        let of = |pairs: &[(&str, &str)]| SlurmAllocation::of(&env(pairs), None);
        let nodes = [
            ("SLURM_JOB_ID", "7"),
            ("SLURM_JOB_NODELIST", "n[1-3]"),
            ("SLURM_JOB_CPUS_PER_NODE", "3,1(x2)"),
        ];
        let found = of(&nodes).expect("is inside");
        assert_eq!((found.job(), found.counts["n1"], found.counts["n3"]), ("7", 3, 1));
        let found = of(&[nodes[0], nodes[1], ("SLURM_JOB_CPUS_PER_NODE", "3")]).expect("is inside");
        assert_eq!(found.counts, HashMap::new());
        let found = of(&[nodes[0], ("SLURM_HET_SIZE", "1")]).expect("one component is like none");
        assert_eq!(found.counts, HashMap::new());
        let error = of(&[nodes[0], ("SLURM_HET_SIZE", "2")]).expect_err("is heterogeneous");
        assert!(matches!(error, AllocationError::Heterogeneous(_)));
        let is_inside_step = |step| {
            let found = of(&[nodes[0], ("SLURM_STEP_ID", step)]).expect("is inside");
            found.is_inside_step()
        };
        assert!(is_inside_step("0") && is_inside_step("39999"));
        assert!(!is_inside_step("4294967290"), "the shell of an salloc is no step of a user's");
        assert!(!found.is_inside_step() && !is_inside_step("batch"));
        for outside in [&[][..], &[("SLURM_JOB_ID", "")]] {
            assert!(matches!(of(outside), Err(AllocationError::NotInside)));
        }
    }

    #[test]
    fn nothing_starts_in_an_allocation_that_is_over_or_has_no_nodes() {
        let allocation =
            SlurmAllocation::of(&env(&[("SLURM_JOB_ID", "7")]), None).expect("is inside");
        let check = |state: &str, nodes: &[&str], is_preempted, is_usable: bool| {
            let facts = JobFacts {
                state: state.to_owned(),
                began_at: None,
                ends_at: Some(Timestamp(100)),
                nodes: nodes.iter().map(|&node| node.to_owned()).collect(),
                grants: Vec::new(),
                is_preempted,
            };
            assert_eq!(allocation.refuse_if_over(&facts).is_ok(), is_usable, "{state} {nodes:?}");
        };
        check("RUNNING", &["n1"], false, true);
        check("CONFIGURING", &["n1"], false, true);
        check("SOMETHING_NEW", &["n1"], false, true);
        check("RUNNING", &["n1"], true, false);
        check("PENDING", &[], false, false);
        check("COMPLETING", &["n1"], false, false);
        check("CANCELLED", &["n1"], false, false);
    }

    #[test]
    fn where_the_allocation_stands() {
        let check = |state: &str, ends_at: u64, expected| {
            let facts = JobFacts {
                state: state.to_owned(),
                began_at: None,
                ends_at: Some(Timestamp(ends_at)),
                nodes: Vec::new(),
                grants: Vec::new(),
                is_preempted: false,
            };
            assert_eq!(standing(&facts, Timestamp(100)), expected, "{state} until {ends_at}");
            let taken = JobFacts { is_preempted: true, ..facts };
            assert_eq!(standing(&taken, Timestamp(100)), Standing::Preempted);
        };
        check("RUNNING", 200, Standing::Lives);
        check("RUNNING", 100, Standing::Ended);
        check("SUSPENDED", 200, Standing::Lives);
        check("SOMETHING_NEW", 200, Standing::Lives);
        check("COMPLETING", 90, Standing::Ended);
        check("CANCELLED", 90, Standing::Ended);
        check("FAILED", 90, Standing::Ended);
        check("NODE_FAIL", 90, Standing::Ended);
        check("TIMEOUT", 90, Standing::Ended);
        check("PREEMPTED", 90, Standing::Preempted);
    }
}
