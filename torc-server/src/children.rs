//! What a driver runs on this host besides jobs: commands of actions, and recovery scripts.
//!
//! Owns the processes from beginning to end, and how many scripts run at once. Does not know what follows
//! from an end: the driver is told of each, once. Where this program can become a keeper, nothing that was
//! begun outlives it; a server's commands of actions may, as what they start on its host is to stay.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use torc_core::engine::{ActionCommand, FailedLaunch};
use torc_core::traits::StepSignal;
use torc_executors::errands::{Errand, ErrandId, Errands};
use torc_executors::keeper;

use crate::action_command::ActionProcess;
use crate::handle::{Handle, Input};
use crate::store::Submitter;

/// Recovery scripts of one workflow at once; the rest wait for their turn.
const SCRIPTS_AT_ONCE: usize = 8;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Child {
    /// A command of an action.
    Command(ActionCommand),
    /// The recovery script of a launch.
    Script(FailedLaunch),
}

impl Child {
    fn ended(self, code: i32) -> Input {
        match self {
            Self::Command(command) => Input::CommandEnded(command, code),
            Self::Script(failed) => Input::ScriptEnded(failed, code),
        }
    }
}

/// How one that runs is asked to end.
enum Way {
    /// Its keeper is.
    Kept(ErrandId),
    /// Whoever waits for it is.
    Plain(mpsc::UnboundedSender<StepSignal>),
}

/// All that a driver runs on this host.
pub(crate) struct Children {
    /// What all of them start from.
    env: Vec<(OsString, OsString)>,
    /// The file mode creation mask of those that have a keeper; `None`: this process's.
    umask: Option<u32>,
    /// Where ends are told.
    driver: Handle,
    /// Whether commands of actions end with this program, too.
    holds_commands: bool,
    /// The time between being asked to end and being killed.
    lead: Duration,
    kept: Option<Errands>,
    running: BTreeMap<Child, Way>,
    waiting: VecDeque<(FailedLaunch, ActionProcess)>,
    /// They have been asked to end, and no other is begun.
    is_stopping: bool,
}

impl Children {
    /// Those of a run in this process, which start from its environment.
    pub(crate) fn of_run(driver: Handle, lead: Duration) -> Self {
        let env = std::env::vars_os().collect();
        Self::new((env, None), driver, lead, true)
    }

    /// Those of a server, which start from the submitter's environment.
    pub(crate) fn of_server(submitter: &Submitter, driver: Handle, lead: Duration) -> Self {
        let env = submitter.env.iter().cloned();
        let env = env.map(|(name, value)| (name.into(), value.into())).collect();
        Self::new((env, Some(submitter.umask)), driver, lead, false)
    }

    fn new(
        (env, umask): (Vec<(OsString, OsString)>, Option<u32>),
        driver: Handle,
        lead: Duration,
        holds_commands: bool,
    ) -> Self {
        Self {
            env,
            umask,
            driver,
            holds_commands,
            lead,
            kept: None,
            running: BTreeMap::new(),
            waiting: VecDeque::new(),
            is_stopping: false,
        }
    }

    /// Whether none runs.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Begins one, or has it wait for its turn. One that was begun already goes on.
    pub(crate) fn begin(&mut self, child: Child, process: ActionProcess) {
        if self.is_stopping || self.running.contains_key(&child) {
            return;
        }
        match child {
            Child::Script(failed) if self.scripts() >= SCRIPTS_AT_ONCE => {
                if !self.waiting.iter().any(|(waiting, _)| *waiting == failed) {
                    self.waiting.push_back((failed, process));
                }
            }
            _ => self.start(child, process),
        }
    }

    /// Waits for the end of one that runs elsewhere, on a node of this run, and ends with that. `None`: the
    /// node is lost.
    pub(crate) fn await_end(&self, child: Child, end: BoxFuture<'static, Option<i32>>) {
        let driver = self.driver.clone();
        tokio::spawn(async move {
            if let Some(code) = end.await {
                driver.tell(child.ended(code));
            }
        });
    }

    /// Takes note of an end, and begins what waited for it.
    pub(crate) fn ended(&mut self, child: Child) {
        self.running.remove(&child);
        while self.scripts() < SCRIPTS_AT_ONCE && !self.is_stopping {
            let Some((failed, process)) = self.waiting.pop_front() else { return };
            self.start(Child::Script(failed), process);
        }
    }

    /// Asks one to end that nobody waits for any more.
    pub(crate) fn end(&mut self, child: Child) {
        self.waiting.retain(|(failed, _)| Child::Script(*failed) != child);
        self.signal(child, StepSignal::Cancel);
    }

    /// Asks all to end, or kills them. No other is begun.
    pub(crate) fn stop(&mut self, signal: StepSignal) {
        self.is_stopping = true;
        self.waiting.clear();
        for child in self.running.keys().copied().collect::<Vec<_>>() {
            self.signal(child, signal);
        }
    }

    /// Kills what is left, and returns when no process of those is that end with this program.
    pub(crate) async fn shutdown(&mut self) {
        self.is_stopping = true;
        if let Some(kept) = self.kept.take() {
            kept.shutdown().await;
        }
    }

    fn scripts(&self) -> usize {
        self.running.keys().filter(|child| matches!(child, Child::Script(_))).count()
    }

    fn signal(&self, child: Child, signal: StepSignal) {
        match (self.running.get(&child), &self.kept) {
            (Some(Way::Kept(errand)), Some(kept)) => kept.signal(*errand, signal),
            // One that has ended meanwhile listens no more.
            (Some(Way::Plain(way)), _) => drop(way.send(signal)),
            _ => {}
        }
    }

    fn start(&mut self, child: Child, process: ActionProcess) {
        let is_held = self.holds_commands || matches!(child, Child::Script(_));
        let lead = self.lead;
        let driver = self.driver.clone();
        let kept = if is_held { self.keeper() } else { None };
        let way = match kept {
            Some(kept) => {
                let (errand, ended) = kept.begin(errand(process, lead));
                tokio::spawn(async move {
                    // One whose end is not told went with its keeper: this program ends.
                    if let Ok(code) = ended.await {
                        driver.tell(child.ended(code));
                    }
                });
                Way::Kept(errand)
            }
            None => {
                let (way, wishes) = mpsc::unbounded_channel();
                let env = self.env.clone();
                tokio::spawn(async move {
                    driver.tell(child.ended(process.run_until(env, wishes, lead).await));
                });
                Way::Plain(way)
            }
        };
        self.running.insert(child, way);
    }

    /// What keeps them, if this program can become it; started once it is needed.
    fn keeper(&mut self) -> Option<&Errands> {
        if self.kept.is_none() && keeper::is_possible() {
            match Errands::start(&self.env, self.umask) {
                Ok(kept) => self.kept = Some(kept),
                Err(error) => tracing::error!(%error, "commands are run without a keeper"),
            }
        }
        self.kept.as_ref()
    }
}

fn errand(process: ActionProcess, lead: Duration) -> Errand {
    let ActionProcess { text, env, working_dir, output } = process;
    Errand {
        argv: vec!["bash".to_owned(), "-c".to_owned(), text],
        env: env.into_iter().collect(),
        working_dir,
        output,
        lead,
    }
}
