//! The task that runs the Slurm executor: takes what happens, asks the books what to do, and does it.
//!
//! It decides nothing itself. All events of the executor come from here, in order: a node that failed is
//! told before the steps that failed with it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use torc_core::ids::{AllocationId, StepId};
use torc_core::resources::NodeInventory;
use torc_core::time::Timestamp;
use torc_core::traits::{LaunchStage, Outcome, Step, StepEvent, StepEvents, StepSignal, Usage};

use super::allocation::{self, AllocationError, SlurmAllocation};
use super::books::{Books, Effect, Now};
use super::command::CommandError;
use super::conclude::{Concluded, Inquiry, conclude};
use super::executor::Taken;
use super::nodes::{Change, Nodes};
use super::outcome::Standing;
use super::show::{JobFacts, NodeFacts};
use super::terms::{self, Terms};
use super::watch::LOOK_AHEAD;
use super::{hostlist, steps};
use crate::clock::{STOOD_STILL, now};
use crate::keeper::wire::Order;
use crate::kept::{Custody, Entry, Memory};

/// Time between two looks at the allocation and its nodes.
const SELDOM: Duration = Duration::from_secs(30);

/// The same while a node is suspected.
const OFTEN: Duration = Duration::from_secs(5);

/// What happens.
#[derive(Debug)]
pub(super) enum Input {
    /// A step to launch.
    Launch(Box<Step>),
    /// A step to signal.
    Signal(StepId, StepSignal),
    /// The srun of a step ended like this.
    SrunEnded(StepId, Timestamp, Outcome),
    /// The srun of a step said this.
    Heard(StepId, Timestamp, Vec<String>),
    /// The executor is to end once nothing runs. Slurm itself may have asked what runs to end.
    WindUp { is_asked: bool },
    /// The executor is shut down.
    Close,
}

/// What was found out or done.
enum Done {
    Concluded(Concluded),
    Found(Result<HashMap<String, u32>, CommandError>),
    Seen(Result<(JobFacts, Vec<NodeFacts>), AllocationError>),
    Told,
}

/// The state of the task.
pub(super) struct Service {
    pub(super) allocation: SlurmAllocation,
    pub(super) id: AllocationId,
    pub(super) custody: Arc<Custody>,
    pub(super) events: Arc<dyn StepEvents>,
    pub(super) taken: Arc<Taken>,
    pub(super) terms: Terms,
    pub(super) books: Books,
    pub(super) nodes: Nodes,
    pub(super) inventory: Arc<[NodeInventory]>,
    inquiry: Arc<Inquiry>,
    tasks: JoinSet<Done>,
    signals: BTreeMap<i32, Vec<u32>>,
    is_looking_up: bool,
    is_looking: bool,
    look_at: Instant,
    looked_at: Instant,
    is_winding_up: bool,
    is_closing: bool,
}

/// What a service is made of.
pub(super) struct Parts {
    pub(super) allocation: SlurmAllocation,
    pub(super) id: AllocationId,
    pub(super) custody: Arc<Custody>,
    pub(super) events: Arc<dyn StepEvents>,
    pub(super) taken: Arc<Taken>,
    pub(super) terms: Terms,
    pub(super) books: Books,
    pub(super) nodes: Nodes,
    pub(super) inventory: Arc<[NodeInventory]>,
}

impl Service {
    /// A service that has done nothing yet.
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { allocation, id, custody, events, taken, terms, books, nodes, inventory } =
            parts;
        Self {
            inquiry: Arc::new(Inquiry::new(allocation.clone())),
            allocation,
            id,
            custody,
            events,
            taken,
            terms,
            books,
            nodes,
            inventory,
            tasks: JoinSet::new(),
            signals: BTreeMap::new(),
            is_looking_up: false,
            is_looking: false,
            look_at: Instant::now() + SELDOM,
            looked_at: Instant::now(),
            is_winding_up: false,
            is_closing: false,
        }
    }

    /// Runs until the executor is shut down and all steps have been reported as ended.
    pub(super) async fn run(mut self, mut inputs: UnboundedReceiver<Input>) {
        let custody = Arc::clone(&self.custody);
        let ended = custody.ended();
        tokio::pin!(ended);
        let mut has_keeper_ended = false;
        loop {
            if self.is_winding_up && !self.is_closing && self.books.is_empty() {
                self.custody.close();
                self.take(Input::Close);
            }
            if has_keeper_ended && self.is_closing && self.books.is_empty() && inputs.is_empty() {
                break;
            }
            let look_due = self.look_due();
            let due = self.books.deadline().map_or(look_due, |time| time.min(look_due));
            tokio::select! {
                biased;
                Some(input) = inputs.recv() => self.take(input),
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    // A task that panicked has said so.
                    if let Ok(done) = done {
                        self.finish(done);
                    }
                }
                () = &mut ended, if !has_keeper_ended => has_keeper_ended = true,
                () = tokio::time::sleep_until(due.into()) => self.mind_time(due),
            }
        }
        while let Some(done) = self.tasks.join_next().await {
            if let Ok(done) = done {
                self.finish(done);
            }
        }
    }

    fn take(&mut self, input: Input) {
        let time = moment();
        let effects = match input {
            Input::Launch(step) => self.books.launch(step, time),
            Input::Signal(id, signal) => self.books.signal(id, signal, time),
            Input::Heard(id, at, lines) => self.books.hear(id, &lines, Now { at, ..time }),
            Input::SrunEnded(id, at, outcome) => {
                self.books.srun_ended(id, outcome, Now { at, ..time })
            }
            Input::WindUp { is_asked } => {
                self.is_winding_up = true;
                self.books.wind_up(is_asked, time)
            }
            Input::Close => {
                self.is_closing = true;
                self.books.close(time)
            }
        };
        self.perform(effects);
    }

    /// Does what was due at `due`.
    fn mind_time(&mut self, due: Instant) {
        let time = moment();
        if time.instant.duration_since(due) > STOOD_STILL {
            // As in a suspended allocation, whose end has moved meanwhile.
            self.books.end_steps_before(None);
            self.look_at = time.instant;
        }
        let effects = self.books.mind_deadlines(time);
        self.perform(effects);
        if self.look_due() <= time.instant {
            self.look();
        }
    }

    /// When the allocation is looked at again: now and then, and before steps are asked to end since it ends, which
    /// it may no longer do.
    fn look_due(&self) -> Instant {
        let before_end = self.books.all_asked_at().and_then(|at| at.checked_sub(LOOK_AHEAD));
        let before_end = before_end.filter(|at| *at > self.looked_at);
        before_end.map_or(self.look_at, |at| at.min(self.look_at))
    }

    fn finish(&mut self, done: Done) {
        let time = moment();
        match done {
            Done::Concluded(concluded) => {
                if !concluded.lost_nodes.is_empty() {
                    let words = "Slurm took it away";
                    let changes = self.nodes.lose(&concluded.lost_nodes, words, time.instant);
                    self.tell(changes);
                }
                self.emit(concluded.event);
            }
            Done::Found(found) => {
                self.is_looking_up = false;
                match found {
                    Ok(numbers) => {
                        let effects = self.books.found(&numbers, time);
                        self.perform(effects);
                    }
                    Err(error) => tracing::warn!(%error, "the numbers of steps are not known"),
                }
            }
            Done::Seen(seen) => {
                self.is_looking = false;
                match seen {
                    Ok((job, nodes)) => self.see(&job, &nodes, time.instant),
                    Err(error) => tracing::warn!(%error, "the allocation cannot be looked at"),
                }
            }
            Done::Told => {}
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Start(step) => effects.extend(self.start(*step)),
                Effect::Scancel { number, signal } => {
                    self.signals.entry(signal).or_default().push(number);
                }
                Effect::LookUp => self.look_up(),
                Effect::Dismiss(id) => self.dismiss(id),
                Effect::Suspect { nodes, have_failed } => self.suspect(&nodes, have_failed),
                Effect::Exhausted => self.exhaust(),
                Effect::Conclude(conclusion) => {
                    tracing::debug!(step = %conclusion.step.id, "its srun has ended");
                    let inquiry = Arc::clone(&self.inquiry);
                    self.tasks
                        .spawn(async { Done::Concluded(conclude(conclusion, inquiry).await) });
                }
                Effect::Emit(event) => self.emit(event),
            }
        }
        for (signal, numbers) in std::mem::take(&mut self.signals) {
            let allocation = self.allocation.clone();
            self.tasks.spawn(async move {
                steps::signal(&allocation, signal, &numbers).await;
                Done::Told
            });
        }
    }

    /// Starts the srun of a step. What that leads to at once is to be done next.
    fn start(&mut self, step: Step) -> Vec<Effect> {
        let id = step.id;
        let refused = match self.hand_over(step) {
            Ok(()) => {
                tracing::debug!(step = %id, "its srun is started");
                return Vec::new();
            }
            Err(refused) => refused,
        };
        self.books.srun_ended(id, refused, moment())
    }

    fn hand_over(&mut self, mut step: Step) -> Result<(), Outcome> {
        let id = step.id;
        let failed = |reason| Outcome::LaunchFailed { stage: LaunchStage::Prepare, reason };
        let hostfile = self.custody.hostfiles.of(&step);
        let hostfile =
            hostfile.map_err(|error| failed(format!("cannot write the hostfile: {error}")))?;
        let (argv, limit) =
            self.terms.plan(&mut step, &hostfile).map_err(|error| failed(error.to_string()))?;
        self.books.limited(id, limit);
        let has_hostfile = step.nodes.len() != 1;
        let key = self.custody.enter(id, Memory::Unmeasured, has_hostfile);
        // Only a keeper that is gone takes no step: these books are never wound up.
        let Ok(Entry::New(key)) = key else { return Err(Outcome::Lost) };
        match self.custody.send(&terms::order(step, key, argv)) {
            // If the step is no longer in the keeper's books, its end was reported.
            Err(_) if self.custody.leave(key).is_some() => Err(Outcome::Lost),
            _ => Ok(()),
        }
    }

    fn dismiss(&self, id: StepId) {
        if let Some(key) = self.custody.key(id) {
            // An error means that the keeper is gone, and srun with it.
            let _ = self.custody.send(&Order::Signal { key, signal: StepSignal::Cancel });
        }
    }

    fn look_up(&mut self) {
        if !self.is_looking_up {
            self.is_looking_up = true;
            let allocation = self.allocation.clone();
            self.tasks.spawn(async move { Done::Found(steps::numbers(&allocation).await) });
        }
    }

    fn suspect(&mut self, list: &str, have_failed: bool) {
        let names = hostlist::expand(list, hostlist::MOST_NODES).unwrap_or_default();
        let time = Instant::now();
        let changes = if have_failed {
            self.nodes.lose(&names, "Slurm reported that it failed", time)
        } else {
            self.nodes.suspect(&names, "srun cannot reach it", time)
        };
        self.tell(changes);
        self.look();
    }

    fn exhaust(&mut self) {
        let reason = "Slurm creates no more job steps for this allocation (slurm.conf, MaxStepCount); \
                      what runs goes on, the rest needs another allocation";
        let changes = self.nodes.exhaust(reason, Instant::now());
        self.tell(changes);
    }

    fn look(&mut self) {
        self.looked_at = Instant::now();
        self.look_at = self.looked_at + SELDOM;
        if self.is_looking {
            return;
        }
        self.is_looking = true;
        let allocation = self.allocation.clone();
        let names = self.nodes.names();
        self.tasks.spawn(async move {
            let seen = async {
                let job = allocation.observe().await?;
                Ok((job, allocation.observe_nodes(&names).await?))
            };
            Done::Seen(seen.await)
        });
    }

    fn see(&mut self, job: &JobFacts, nodes: &[NodeFacts], time: Instant) {
        // One that is over has no nodes, and from one that ends they go one after the other; that is the
        // scheduler's to tell.
        if !job.nodes.is_empty() && allocation::standing(job, now()) == Standing::Lives {
            let changes = self.nodes.observe(&job.nodes, nodes, time);
            self.tell(changes);
        }
        let pause = if self.nodes.are_suspected(time) { OFTEN } else { SELDOM };
        self.look_at = time + pause;
        let before = self.terms.ends_at;
        self.terms.ends_at = job.ends_at;
        self.books.end_steps_before(self.terms.limit_at());
        let by = match (before, job.ends_at) {
            (Some(before), Some(after)) if after > before => {
                Duration::from_millis(after.0 - before.0)
            }
            // It does not end any more: as good as for ever.
            (Some(_), None) => Duration::from_secs(365 * 24 * 3600),
            _ => return,
        };
        for (number, limit) in self.books.extend(by) {
            let allocation = self.allocation.clone();
            self.tasks.spawn(async move {
                steps::set_limit(&allocation, number, limit).await;
                Done::Told
            });
        }
    }

    /// Tells of changed nodes. Once one is lost, steps are started in another way.
    fn tell(&mut self, changes: Vec<Change>) {
        if self.nodes.has_lost_any() && self.terms.launcher.shared.is_none() {
            self.terms.launcher.shared = Some(Arc::clone(&self.inventory));
            let effects = self.books.recall();
            self.perform(effects);
        }
        for Change { node, state, reason } in changes {
            self.events.emit(StepEvent::NodeChanged {
                allocation: self.id,
                node: node.into(),
                at: now(),
                state,
                reason,
            });
        }
    }

    fn emit(&self, event: StepEvent) {
        if let StepEvent::Ended { step, .. } = &event {
            self.taken.remove(*step);
        }
        self.events.emit(event);
    }
}

/// No step outlives this task unreported, if it is dropped with its runtime.
impl Drop for Service {
    fn drop(&mut self) {
        for step in self.taken.drain() {
            let event = StepEvent::Ended {
                step,
                at: now(),
                outcome: Outcome::Lost,
                usage: Usage::default(),
            };
            self.events.emit(event);
        }
    }
}

fn moment() -> Now {
    Now { instant: Instant::now(), at: now() }
}
