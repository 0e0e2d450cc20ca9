//! What an executor must do: run every step, tell how it ended, once, and leave nothing behind.
//!
//! Owns: the list of the checks of [`Executor`](torc_core::traits::Executor), and what they are given. Does not know:
//! where the executor runs steps, as long as those see the folder. Invariant: each check opens an executor of its own
//! and closes it; only files and reports tell it anything, so that steps may run on other hosts.

mod account;
mod bench;
mod endings;
mod stops;
mod surroundings;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use torc_core::traits::{Executor, StepEvents};

use crate::check::Check;

/// Makes the executors to look at.
#[async_trait]
pub trait Executors: Sync {
    /// Makes one that reports to `events`, or says why it cannot be made.
    async fn open(&self, events: Arc<dyn StepEvents>) -> Result<Box<dyn OpenExecutor>, String>;
}

/// An executor that can be closed, as its owner does it.
#[async_trait]
pub trait OpenExecutor: Send + Sync {
    /// The executor.
    fn executor(&self) -> &dyn Executor;

    /// Ends what still runs. When it returns, no process of any step is left; the ends are told by then, or soon.
    async fn close(&self);
}

/// An executor to look at, and where.
#[derive(Clone)]
pub struct ExecutorSite<'a> {
    /// Makes it.
    pub executors: &'a dyn Executors,
    /// A folder, absolute, where each check makes one of its own; steps see it, wherever they run. Output and other
    /// files of steps stay there.
    pub folder: PathBuf,
    /// How long any one thing may take before it counts as not happening.
    pub patience: Duration,
    /// Steps that are launched at once, at least 1.
    pub at_once: u32,
}

impl<'a> ExecutorSite<'a> {
    /// A hundred steps at once, and a minute's patience.
    pub fn new(executors: &'a dyn Executors, folder: PathBuf) -> Self {
        Self { executors, folder, patience: Duration::from_secs(60), at_once: 100 }
    }
}

pub(crate) const CHECKS: &[Check] = &[
    Check::executor(
        "executor.inventory",
        "There is at least one node; names, CPUs and GPUs are there once.",
        |site| Box::pin(account::inventory(site)),
    ),
    Check::executor("executor.success", "A step that exits with 0 ends so.", |site| {
        Box::pin(endings::success(site))
    }),
    Check::executor(
        "executor.exit_codes",
        "Every other exit code is told, also those by which shells mean something.",
        |site| Box::pin(endings::exit_codes(site)),
    ),
    Check::executor(
        "executor.ended_by_a_signal",
        "A step that a signal ends which torc did not send is told with it.",
        |site| Box::pin(endings::ended_by_a_signal(site)),
    ),
    Check::executor(
        "executor.missing_program",
        "A program that is not there is a failed launch, in words (or exit code 127 of the shell that stands between).",
        |site| Box::pin(endings::missing_program(site)),
    ),
    Check::executor(
        "executor.missing_working_folder",
        "A working folder that is not there is a failed launch, and nothing runs elsewhere instead.",
        |site| Box::pin(endings::missing_working_folder(site)),
    ),
    Check::executor(
        "executor.output_that_cannot_be_opened",
        "An output file that cannot be opened is a failed launch, and nothing runs without it.",
        |site| Box::pin(endings::output_that_cannot_be_opened(site)),
    ),
    Check::executor(
        "executor.expected_files",
        "Declared files that are missing after an exit with 0 are named; after another code they do not matter.",
        |site| Box::pin(endings::expected_files(site)),
    ),
    Check::executor(
        "executor.argv_arrives_whole",
        "Blanks, quotes, line ends, `$` and empty words of a command are what they were.",
        |site| Box::pin(surroundings::argv_arrives_whole(site)),
    ),
    Check::executor(
        "executor.environment",
        "The step's variables are set, whatever is in them, over those of the executor.",
        |site| Box::pin(surroundings::environment(site)),
    ),
    Check::executor(
        "executor.working_folder",
        "A step runs in its working folder, whatever that is called.",
        |site| Box::pin(surroundings::working_folder(site)),
    ),
    Check::executor(
        "executor.output_files",
        "Output goes to its files and is there at the end; without a file it is discarded.",
        |site| Box::pin(surroundings::output_files(site)),
    ),
    Check::executor(
        "executor.shared_output_file",
        "Both streams into one file lose nothing and keep their order.",
        |site| Box::pin(surroundings::shared_output_file(site)),
    ),
    Check::executor(
        "executor.output_is_deleted_on_success",
        "Output that is only wanted of failures is removed after an exit with 0, and else kept.",
        |site| Box::pin(surroundings::output_is_deleted_on_success(site)),
    ),
    Check::executor(
        "executor.gang",
        "The command of a step on two nodes runs there, at most once for each rank.",
        |site| Box::pin(surroundings::gang(site)),
    ),
    Check::executor(
        "executor.many_at_once",
        "Many steps that are launched at once all end, each with its own code.",
        |site| Box::pin(account::many_at_once(site)),
    ),
    Check::executor(
        "executor.events_in_order",
        "At most one start, then exactly one end, and nothing after it; a failed launch has not started.",
        |site| Box::pin(account::events_in_order(site)),
    ),
    Check::executor(
        "executor.reconcile",
        "Asked after steps it tells which run, which ended and which it does not know, in the order of the question.",
        |site| Box::pin(account::reconcile(site)),
    ),
    Check::executor(
        "executor.cancel_running",
        "A cancelled step is asked to end: cancelled unless it exits with 0 by itself.",
        |site| Box::pin(stops::cancel_running(site)),
    ),
    Check::executor(
        "executor.cancel_at_once",
        "A step that is cancelled as soon as it was launched ends cancelled, and nothing of it goes on.",
        |site| Box::pin(stops::cancel_at_once(site)),
    ),
    Check::executor(
        "executor.cancel_twice",
        "To cancel a step again changes nothing, also when it has ended.",
        |site| Box::pin(stops::cancel_twice(site)),
    ),
    Check::executor(
        "executor.signal_to_the_unknown",
        "A signal to a step that it does not know is taken, and nothing is told of it or done to others.",
        |site| Box::pin(stops::signal_to_the_unknown(site)),
    ),
    Check::executor(
        "executor.grace_is_given",
        "A step that is asked to end has its lead to do so.",
        |site| Box::pin(stops::grace_is_given(site)),
    ),
    Check::executor(
        "executor.grace_ends",
        "A step that does not end when it is asked to is killed after its lead.",
        |site| Box::pin(stops::grace_ends(site)),
    ),
    Check::executor(
        "executor.time_up",
        "A step whose time is up ends so, with its code if it exits by itself.",
        |site| Box::pin(stops::time_up(site)),
    ),
    Check::executor("executor.kill", "A killed step ends at once, cancelled.", |site| {
        Box::pin(stops::kill(site))
    }),
    Check::executor(
        "executor.own_time_limit",
        "A step past its runtime is asked to end, as when its time is up.",
        |site| Box::pin(stops::own_time_limit(site)),
    ),
    Check::executor(
        "executor.termination_signal",
        "The signal that asks a step to end is the step's own.",
        |site| Box::pin(stops::termination_signal(site)),
    ),
    Check::executor(
        "executor.nothing_left_behind",
        "When an end is told, no process of the step is left, also none in the background.",
        |site| Box::pin(account::nothing_left_behind(site)),
    ),
    Check::executor(
        "executor.close_with_work_in_flight",
        "Closed while steps run, it leaves no process, and the end of each of them is told.",
        |site| Box::pin(account::close_with_work_in_flight(site)),
    ),
];
