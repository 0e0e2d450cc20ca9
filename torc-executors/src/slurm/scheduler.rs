//! Slurm as a source of allocations: sbatch, squeue, sacct, sinfo and scancel.
//!
//! Owns the few calls and how they follow from each other; what is asked and what is answered is read
//! elsewhere. It keeps no list of allocations: what it says is what Slurm said just now. A question that
//! failed is never taken for an answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::OnceCell;
use torc_core::traits::{
    AllocationHandle, AllocationRequest, AllocationState, Scheduler, SchedulerError, Shapes,
};

use super::accounting;
use super::command::{Answer, Call, CommandError, Programs};
use super::environment;
use super::partitions::{self, Partition};
use super::position::{self, QueuePosition};
use super::queue::{self, SeenJob};
use super::records::Garbled;
use super::refusals;
use super::script;
use super::settings::SlurmSettings;
use super::version::{Dialect, Version};

/// Ids in one call: far below the longest argument that Linux takes (128 KiB).
pub(super) const IDS_OF_A_CALL: usize = 4000;

/// Slurm, reached through its client programs.
#[derive(Debug)]
pub struct SlurmScheduler {
    programs: Programs,
    dialect: OnceCell<Dialect>,
    /// Seen once, it is not asked again: a cluster that keeps no accounting does not begin to.
    is_without_accounting: AtomicBool,
}

impl SlurmScheduler {
    /// Slurm with these client programs. Nothing is started yet.
    pub fn new(programs: Programs) -> Self {
        Self { programs, dialect: OnceCell::new(), is_without_accounting: AtomicBool::new(false) }
    }

    /// The programs, for others that use the same Slurm.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Which Slurm this is; asked once.
    ///
    /// # Errors
    /// When it cannot be asked, or is older than torc can work with.
    pub async fn dialect(&self) -> Result<Dialect, SchedulerError> {
        let ask = || async {
            let answer = self.ask(Call::new("sbatch", ["--version"])).await?;
            let refuse =
                |error: super::version::VersionError| SchedulerError::Refused(error.to_string());
            Version::parse(text(&answer)?).and_then(Dialect::of).map_err(refuse)
        };
        self.dialect.get_or_try_init(ask).await.copied()
    }

    /// All partitions that this user may use, with their limits and nodes.
    ///
    /// # Errors
    /// When Slurm could not be asked.
    pub async fn partitions(&self) -> Result<Vec<Partition>, SchedulerError> {
        let answer = self.ask(Call::new("sinfo", partitions::ask())).await?;
        refuse_silent_failure("sinfo", &answer)?;
        partitions::read(text(&answer)?).map_err(unreadable)
    }

    /// Where a waiting allocation stands in the queue; `None`: it does not wait. One call, which lists
    /// all that waits in the cluster: for people who ask, not for loops.
    ///
    /// # Errors
    /// When Slurm could not be asked.
    pub async fn ahead_of(
        &self,
        allocation: &AllocationHandle,
    ) -> Result<Option<QueuePosition>, SchedulerError> {
        let Some(id) = job_id(allocation) else { return Ok(None) };
        let answer = self.ask(Call::new("squeue", position::ask())).await?;
        refuse_silent_failure("squeue", &answer)?;
        position::read(text(&answer)?, id).map_err(unreadable)
    }

    async fn ask(&self, call: Call) -> Result<Answer, SchedulerError> {
        self.programs.run(call).await.map_err(|error| refusals::of_question(&error))
    }

    /// Those of these jobs that the queue knows.
    async fn ask_queue(&self, ids: &[u64]) -> Result<Vec<SeenJob>, SchedulerError> {
        let answer = match self.programs.run(Call::new("squeue", queue::ask_states(ids))).await {
            Ok(answer) => answer,
            // Only when a single one was asked for does squeue complain; of several it leaves out those
            // that it does not know.
            Err(error) if ids.len() == 1 && refusals::is_unknown_job(&error) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(refusals::of_question(&error)),
        };
        refuse_silent_failure("squeue", &answer)?;
        queue::read_states(text(&answer)?).map_err(unreadable)
    }

    /// Runs sacct; `None`: there is no accounting.
    async fn ask_accounting(&self, args: Vec<String>) -> Result<Option<Answer>, SchedulerError> {
        if self.is_without_accounting.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match self.programs.run(Call::new("sacct", args)).await {
            Ok(answer) => {
                refuse_silent_failure("sacct", &answer)?;
                Ok(Some(answer))
            }
            Err(error) if refusals::is_without_accounting(&error) => {
                self.is_without_accounting.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(refusals::of_question(&error)),
        }
    }

    /// How these jobs ended that the queue no longer knows, as far as the accounting tells. That it
    /// cannot be asked takes nothing from what the queue said: those jobs are unknown, for now.
    async fn ask_ends(&self, ids: &[u64]) -> Vec<SeenJob> {
        let asked = self.ask_accounting(accounting::ask_states(ids)).await;
        let read = asked.and_then(|answer| match answer {
            Some(answer) => accounting::read_states(text(&answer)?).map_err(unreadable),
            None => Ok(Vec::new()),
        });
        read.unwrap_or_else(|error| {
            tracing::warn!(%error, "the accounting could not be asked how allocations ended");
            Vec::new()
        })
    }
}

#[async_trait]
impl Scheduler for SlurmScheduler {
    async fn shapes(&self, request: &AllocationRequest) -> Result<Shapes, SchedulerError> {
        let settings = SlurmSettings::of(request).map_err(refused)?;
        let partitions = self.partitions().await?;
        Ok(partitions::shapes(&partitions, settings.partitions().as_deref()))
    }

    /// An answer that did not come says nothing about the submission: ask [`Self::find`] before trying
    /// again.
    async fn submit(
        &self,
        request: &AllocationRequest,
        key: &str,
    ) -> Result<AllocationHandle, SchedulerError> {
        let script = script::render(request, key).map_err(refused)?;
        self.dialect().await?;
        let call = Call {
            program: "sbatch",
            args: script.args,
            input: script.text.into_bytes(),
            env: Some(environment::for_request(&request.env, &self.programs.env)),
            // SLURM_SUBMIT_DIR of the jobs.
            folder: Some(request.working_dir.clone().into()),
        };
        let answer = self.programs.run(call).await;
        let answer = answer.map_err(|error| refusals::of_submission(&error))?;
        for warning in answer.stderr.lines().filter(|line| !line.trim().is_empty()) {
            tracing::warn!(warning, "sbatch accepted the request with a warning");
        }
        let id = submitted_id(&String::from_utf8_lossy(&answer.stdout));
        id.ok_or_else(|| {
            let words = String::from_utf8_lossy(&answer.stdout);
            unreadable(Garbled::new("sbatch", &words))
        })
    }

    async fn find(&self, key: &str) -> Result<Option<AllocationHandle>, SchedulerError> {
        let answer = self.ask(Call::new("squeue", queue::ask_marks())).await?;
        refuse_silent_failure("squeue", &answer)?;
        // Other jobs' comments may be in any encoding.
        let marks = String::from_utf8_lossy(&answer.stdout);
        if let Some(id) = queue::read_marked(&marks, key).map_err(unreadable)? {
            return Ok(Some(handle(id)));
        }
        let user = nix::unistd::getuid().as_raw();
        let answer = self.ask_accounting(accounting::ask_marks(user)).await?;
        let id = answer.and_then(|answer| {
            accounting::read_marked(&String::from_utf8_lossy(&answer.stdout), key)
        });
        Ok(id.map(handle))
    }

    async fn observe(
        &self,
        allocations: &[AllocationHandle],
    ) -> Result<Vec<AllocationState>, SchedulerError> {
        let ids: Vec<Option<u64>> = allocations.iter().map(job_id).collect();
        let mut asked: Vec<u64> = ids.iter().copied().flatten().collect();
        asked.sort_unstable();
        asked.dedup();
        let mut states: HashMap<u64, AllocationState> = HashMap::new();
        for ids in asked.chunks(IDS_OF_A_CALL) {
            states.extend(self.ask_queue(ids).await?.into_iter().map(|job| (job.id, job.state)));
        }
        asked.retain(|id| !states.contains_key(id));
        for ids in asked.chunks(IDS_OF_A_CALL) {
            states.extend(self.ask_ends(ids).await.into_iter().map(|job| (job.id, job.state)));
        }
        let state = |id: &Option<u64>| id.and_then(|id| states.get(&id).cloned());
        Ok(ids.iter().map(|id| state(id).unwrap_or(AllocationState::Unknown)).collect())
    }

    async fn cancel(&self, allocation: &AllocationHandle) -> Result<(), SchedulerError> {
        let Some(id) = job_id(allocation) else { return Ok(()) };
        match self.programs.run(Call::new("scancel", [id.to_string()])).await {
            Ok(_) => Ok(()),
            Err(error) if refusals::is_unknown_job(&error) || refusals::is_over(&error) => Ok(()),
            Err(error) => Err(refusals::of_question(&error)),
        }
    }
}

fn handle(id: u64) -> AllocationHandle {
    AllocationHandle(id.to_string())
}

/// The highest number of a job: squeue refuses a question that has a higher one, whatever else it asks.
const HIGHEST_ID: u64 = 0x7fff_ffff;

/// Slurm's number of an allocation. Nothing else is given to a program: another word could be read as
/// an option.
pub(super) fn job_id(allocation: &AllocationHandle) -> Option<u64> {
    let text = allocation.0.as_str();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten().filter(|id| (1..=HIGHEST_ID).contains(id))
}

/// The id in what `sbatch --parsable` says: `12`, `12;cluster`. A site's wrapper may say more.
fn submitted_id(stdout: &str) -> Option<AllocationHandle> {
    stdout.lines().rev().find_map(|line| {
        let word = line.trim().split(';').next()?;
        job_id(&AllocationHandle(word.to_owned())).map(handle)
    })
}

/// Slurm's clients exit with 0 after some of their errors. An empty answer beside a complaint is none.
pub(super) fn refuse_silent_failure(
    program: &'static str,
    answer: &Answer,
) -> Result<(), SchedulerError> {
    let is_empty = answer.stdout.iter().all(u8::is_ascii_whitespace);
    if is_empty && answer.stderr.contains("error") {
        let words = answer.stderr.trim().replace('\n', "; ");
        return Err(SchedulerError::Unavailable(format!("`{program}` said: {words}")));
    }
    Ok(())
}

pub(super) fn text(answer: &Answer) -> Result<&str, SchedulerError> {
    answer.text().map_err(|error: CommandError| refusals::of_question(&error))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: Garbled) -> SchedulerError {
    SchedulerError::Unavailable(error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn refused(error: super::settings::ScriptError) -> SchedulerError {
    SchedulerError::Refused(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_are_given_to_programs() {
        let check = |text: &str, expected| {
            assert_eq!(job_id(&AllocationHandle(text.to_owned())), expected, "{text}");
        };
        check("12", Some(12));
        check("2147483647", Some(2_147_483_647));
        for text in
            ["", "0", "-1", "+1", "--me", "12_3", "1 2", "2147483648", "99999999999999999999"]
        {
            check(text, None);
        }
    }

    #[test]
    fn the_id_of_a_submission_is_found() {
        let check = |stdout: &str, expected: Option<&str>| {
            let found = submitted_id(stdout);
            assert_eq!(found.map(|handle| handle.0).as_deref(), expected, "{stdout}");
        };
        check("12\n", Some("12"));
        check("12;cluster\n", Some("12"));
        check("Your project has 5 hours left\n12\n", Some("12"));
        check("", None);
        check("Submitted batch job 12\n", None);
    }
}
