//! The task that runs a crew: takes what happens, asks the books what to do, and does it.
//!
//! Decides nothing. Everything that the crew reports comes from here, in order.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use torc_core::ids::StepId;
use torc_core::resources::NodeInventory;
use torc_core::time::Timestamp;
use torc_core::traits::{NodeState, Step, StepEvent, StepEvents, StepSignal};
use torc_core::wire::crew::{HelperStart, ToNode};
use torc_core::wire::link::Parting;
use torc_executors::direct::Traces;
use torc_executors::slurm::Standing;

use super::Overseer;
use super::books::{Books, Effect, Now, Place, Refusal};
use super::helpers::{Held, Helpers};
use super::post::Link;
use super::survey::Survey;
use crate::action_command::ActionProcess;
use crate::clock::{STOOD_STILL, now};

/// Clearings at once: what one is held up by holds up no other, and Slurm is not asked by many.
const MOST_CLEARINGS: usize = 4;

/// How soon it is told that the allocation ends at another time.
const END_IS_TOLD_WITHIN: Duration = Duration::from_secs(45);

/// What happens.
pub(super) enum Input {
    Launch(Box<Step>),
    Signal(StepId, StepSignal),
    /// A node's worker has come.
    Joined {
        node: Box<str>,
        has: Option<Box<NodeInventory>>,
        link: u64,
        sender: Link,
    },
    /// A job has a command started on another of its nodes.
    Help {
        start: Box<HelperStart>,
        link: u64,
        sender: Link,
    },
    Reported(u64, StepEvent),
    /// A command to run on a node, and where its exit code goes; nothing comes when its worker is gone.
    Run(Box<str>, Box<ActionProcess>, oneshot::Sender<i32>),
    /// A node is to be given back.
    Release(Box<str>, Parting),
    CommandEnded(u64, i32),
    /// A node's worker is there, as it was asked to show for the sake of this step.
    Present(u64, StepId),
    /// A connection has ended, in these words.
    Left(u64, String),
    News(News),
    /// What do the nodes have?
    Survey(oneshot::Sender<Vec<NodeInventory>>),
    /// Which steps have not ended?
    Asked(oneshot::Sender<Vec<StepId>>),
    Stands(Standing, Instant),
    Cleared(Vec<StepId>),
    /// Whether nodes were given back.
    GivenBack(bool),
    /// Nothing more is launched, and what runs is asked to end. Slurm may be taking the allocation away.
    WindUp {
        is_taken: bool,
    },
    /// What runs is killed.
    Close,
}

/// What the scheduler tells of the workers and their nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The workers of these nodes have ended.
    WorkersEnded {
        /// The nodes.
        nodes: Vec<String>,
        /// The scheduler's words.
        words: String,
    },
    /// The workers of these nodes have ended, since not all could be started, and are started again.
    StartedAgain {
        /// The nodes.
        nodes: Vec<String>,
    },
    /// These nodes have failed, or left the allocation.
    NodesFailed {
        /// The nodes.
        nodes: Vec<String>,
        /// The scheduler's words.
        words: String,
    },
    /// A node was found good or bad for new work.
    NodeIs {
        /// The node.
        node: String,
        /// Its state.
        state: NodeState,
        /// The scheduler's words.
        words: String,
    },
    /// The jobs are to be asked to end at this time, if nobody has; `None`: never.
    TimeIsUpAt(Option<Timestamp>),
}

/// The state of the task.
pub(super) struct Service {
    pub(super) books: Books,
    survey: Survey,
    events: Arc<dyn StepEvents>,
    overseer: Arc<dyn Overseer>,
    links: HashMap<u64, Place>,
    pub(super) senders: HashMap<Place, Link>,
    tasks: JoinSet<Input>,
    commands: Commands,
    pub(super) helpers: Helpers,
    /// The connections of those who asked for them.
    pub(super) askers: HashMap<u64, Link>,
    /// Where their output goes.
    pub(super) outputs: PathBuf,
    /// Jobs of lost workers that are still to be cleared up after.
    to_clear: Vec<Traces>,
    /// Clearings that are under way.
    clearings: usize,
    time_is_up_at: Option<Timestamp>,
}

impl Service {
    pub(super) fn new(
        books: Books,
        survey: Survey,
        events: Arc<dyn StepEvents>,
        overseer: Arc<dyn Overseer>,
        outputs: PathBuf,
    ) -> Self {
        Self {
            books,
            survey,
            events,
            overseer,
            links: HashMap::new(),
            senders: HashMap::new(),
            tasks: JoinSet::new(),
            commands: Commands::default(),
            helpers: Helpers::default(),
            askers: HashMap::new(),
            outputs,
            to_clear: Vec::new(),
            clearings: 0,
            time_is_up_at: None,
        }
    }

    /// Runs until all is done.
    pub(super) async fn run(mut self, mut inputs: UnboundedReceiver<Input>) {
        while !self.books.is_done() {
            self.survey.tell(self.books.awaits_any());
            let due = self.due();
            tokio::select! {
                Some(input) = inputs.recv() => self.take(input),
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    // A task that panicked has said so.
                    if let Ok(input) = done {
                        self.take(input);
                    }
                }
                () = wait_until(due) => self.mind_time(due.map(|due| due.elapsed())),
            }
        }
        // The connections end first, so that no worker takes its end for an accident.
        self.senders.clear();
        self.overseer.end_workers().await;
    }

    fn due(&self) -> Option<Instant> {
        let time_is_up = self.time_is_up_at.map(|at| Instant::now() + at.since(now()));
        self.books.deadline().into_iter().chain(time_is_up).min()
    }

    /// Does what is due, and is late by so much.
    fn mind_time(&mut self, late: Option<Duration>) {
        let time = moment();
        if let Some(late) = late.filter(|late| *late >= STOOD_STILL) {
            // As in an allocation that is suspended, whose end has moved meanwhile: it will be told.
            self.books.give_time(late);
            self.time_is_up_at = self.time_is_up_at.map(|at| at.max(time.at + END_IS_TOLD_WITHIN));
        }
        if self.time_is_up_at.is_some_and(|at| at <= time.at) {
            self.time_is_up_at = None;
            self.signal_all(StepSignal::TimeUp);
        }
        let effects = self.books.mind_deadlines(time);
        self.perform(effects);
    }

    fn signal_all(&mut self, signal: StepSignal) {
        for step in self.books.steps().collect::<Vec<_>>() {
            let effects = self.books.signal(step, signal, moment());
            self.perform(effects);
        }
    }

    fn take(&mut self, input: Input) {
        let time = moment();
        let effects = match input {
            Input::Launch(step) => self.books.launch(step, time),
            Input::Signal(step, signal) => self.books.signal(step, signal, time),
            Input::Joined { node, has, link, sender } => {
                return self.join((&node, has), link, sender);
            }
            Input::Help { start, link, sender } => return self.help(*start, link, sender),
            Input::Survey(answer) => {
                self.survey.ask(answer);
                Vec::new()
            }
            Input::Reported(link, event) => match self.links.get(&link) {
                Some(&place) => self.report(place, event),
                None => Vec::new(),
            },
            Input::Run(node, process, answer) => {
                self.run_command(&node, *process, answer);
                Vec::new()
            }
            Input::Release(node, parting) => self.books.release(&node, parting, time),
            Input::GivenBack(is_done) => self.books.given_back(is_done, time),
            Input::Present(link, step) => match self.links.get(&link) {
                Some(&place) => self.books.heard(place, step),
                None => Vec::new(),
            },
            Input::CommandEnded(number, code) => {
                self.commands.end(number, code);
                Vec::new()
            }
            Input::Left(link, words) => match self.links.remove(&link) {
                Some(place) => {
                    self.senders.remove(&place);
                    self.commands.wait_again(place);
                    self.lose_helpers_at(place);
                    self.books.leave(place, &words, time)
                }
                None => {
                    self.end_asked_over(link);
                    Vec::new()
                }
            },
            Input::News(news) => self.hear(news),
            Input::Asked(answer) => {
                // Whoever asked need not wait for it.
                let _ = answer.send(self.books.steps().collect());
                Vec::new()
            }
            Input::Stands(standing, asked) => self.books.stands(standing, asked),
            Input::Cleared(steps) => {
                self.clearings -= 1;
                let is_clear = |step: &StepId| !self.awaits_helpers(*step, || Held::Cleared);
                let steps: Vec<StepId> = steps.into_iter().filter(is_clear).collect();
                self.books.cleared(&steps, time)
            }
            Input::WindUp { is_taken } => self.books.wind_up(is_taken, time),
            Input::Close => {
                self.signal_all(StepSignal::Kill);
                self.books.wind_up(false, time)
            }
        };
        self.perform(effects);
    }

    fn join(&mut self, (node, has): (&str, Option<Box<NodeInventory>>), link: u64, sender: Link) {
        match self.books.join(node) {
            Ok((place, effects)) => {
                tracing::info!(node, "the worker of a node has come");
                if let Some(has) = has {
                    self.survey.see(place, *has);
                }
                self.links.insert(link, place);
                self.senders.insert(place, sender);
                self.perform(effects);
            }
            Err(Refusal { reason, may_ask_again }) => {
                tracing::warn!(node, reason, "the worker of a node was not taken in");
                say(&sender, &ToNode::Refused { reason, may_ask_again });
                sender.close("refused");
            }
        }
    }

    fn run_command(&mut self, node: &str, process: ActionProcess, answer: oneshot::Sender<i32>) {
        let place = self.books.place_of(node);
        let Some((place, sender)) = place.and_then(|at| Some((at, self.senders.get(&at)?))) else {
            // It has not come yet, or is gone.
            self.commands.waiting.push((node.into(), process, answer));
            return self.settle_commands();
        };
        let ActionProcess { text, env, working_dir, output } = process.clone();
        let number = self.commands.begin(place, (node.into(), process, answer));
        say(sender, &ToNode::RunCommand { number, text, output, env, working_dir });
    }

    /// Commands for workers that have come since are run; those for nodes that are gone cannot be.
    fn settle_commands(&mut self) {
        for (node, process, answer) in std::mem::take(&mut self.commands.waiting) {
            match self.books.place_of(&node) {
                Some(place) if self.senders.contains_key(&place) => {
                    self.run_command(&node, process, answer);
                }
                Some(place) if self.books.may_come(place) => {
                    self.commands.waiting.push((node, process, answer));
                }
                // Nothing will be said: its worker is gone.
                _ => drop(answer),
            }
        }
    }

    fn hear(&mut self, news: News) -> Vec<Effect> {
        let time = moment();
        match news {
            News::WorkersEnded { nodes, words } => self.books.workers_ended(&nodes, &words, time),
            News::StartedAgain { nodes } => self.books.start_again(&nodes, time),
            News::NodesFailed { nodes, words } => self.books.nodes_failed(&nodes, &words, time),
            News::NodeIs { node, state, words } => self.books.node_is(&node, state, &words, time),
            News::TimeIsUpAt(at) => {
                self.time_is_up_at = at;
                Vec::new()
            }
        }
    }

    /// Each clearing asks Slurm for all steps of the allocation, so what gathers meanwhile shares the next.
    fn clear(&mut self) {
        if self.to_clear.is_empty() || self.clearings == MOST_CLEARINGS {
            return;
        }
        self.clearings += 1;
        let (overseer, jobs) = (Arc::clone(&self.overseer), std::mem::take(&mut self.to_clear));
        self.tasks.spawn(async move {
            overseer.clear(&jobs).await;
            Input::Cleared(jobs.into_iter().map(|traces| traces.step).collect())
        });
    }

    pub(super) fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Say(place, message) => {
                    if let Some(sender) = self.senders.get(&place) {
                        say(sender, &message);
                    }
                }
                Effect::Dismiss(place) => {
                    if let Some(sender) = self.senders.remove(&place) {
                        sender.close("the node is not used any more");
                    }
                }
                Effect::Emit(event) => self.events.emit(event),
                Effect::Clear(jobs) => self.to_clear.extend(jobs),
                Effect::GiveBack => {
                    let (overseer, kept) = (Arc::clone(&self.overseer), self.books.kept());
                    self.tasks
                        .spawn(async move { Input::GivenBack(overseer.keep_only(&kept).await) });
                }
                Effect::AskStanding => {
                    let (overseer, asked) = (Arc::clone(&self.overseer), Instant::now());
                    self.tasks
                        .spawn(async move { Input::Stands(overseer.standing().await, asked) });
                }
            }
        }
        self.clear();
        // A worker that has come was welcomed first.
        if !self.commands.waiting.is_empty() {
            self.settle_commands();
        }
    }
}

/// A command, its node, and where its exit code goes.
type Command = (Box<str>, ActionProcess, oneshot::Sender<i32>);

/// Commands that run on nodes, and those whose node's worker has to come first.
#[derive(Default)]
struct Commands {
    last: u64,
    running: HashMap<u64, (Place, Command)>,
    waiting: Vec<Command>,
}

impl Commands {
    fn begin(&mut self, place: Place, command: Command) -> u64 {
        self.last += 1;
        self.running.insert(self.last, (place, command));
        self.last
    }

    fn end(&mut self, number: u64, code: i32) {
        if let Some((_, (.., answer))) = self.running.remove(&number) {
            // Whoever asked need not be there any more.
            let _ = answer.send(code);
        }
    }

    /// A node's worker is gone, and what it ran: that runs anew if it is started again.
    fn wait_again(&mut self, place: Place) {
        let gone = self.running.extract_if(|_, (at, _)| *at == place);
        self.waiting.extend(gone.map(|(_, (_, command))| command));
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Says something, unless the connection has ended: that is noticed where it is read.
pub(super) fn say(sender: &Link, message: &ToNode) {
    if let Err(error) = sender.send(message) {
        tracing::debug!(%error, "the worker of a node is not told");
    }
}

pub(super) fn moment() -> Now {
    Now { instant: Instant::now(), at: now() }
}
