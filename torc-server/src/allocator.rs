//! Asking schedulers for allocations and about them: does what their governors decide, and tells each
//! workflow's driver what comes of it.
//!
//! One task for all workflows of a server. Decides nothing itself, and waits for no answer: questions
//! run beside it, so that a scheduler that hangs holds up nobody.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use torc_core::governor::{Governor, Governors, Limits, News, Order, Who};
use torc_core::ids::WorkflowId;
use torc_core::traits::{AllocationHandle, AllocationRequest, AllocationState, SchedulerError};

use crate::clock::now;
use crate::handle::{AllocationInput, Handle, Input};
use crate::journal;
use crate::schedulers::Schedulers;

/// A wish for an allocation.
pub(crate) struct Wish {
    pub(crate) who: Who,
    /// The scheduler of the spec.
    pub(crate) scheduler: Arc<str>,
    /// Its type.
    pub(crate) kind: Arc<str>,
    pub(crate) request: AllocationRequest,
    /// Unique for ever; travels with the request.
    pub(crate) key: String,
    /// It may have been asked for before.
    pub(crate) in_doubt: bool,
    /// Whom to tell.
    pub(crate) driver: Handle,
}

/// An allocation that a scheduler has.
pub(crate) struct Tracked {
    pub(crate) who: Who,
    /// The scheduler of the spec.
    pub(crate) scheduler: Arc<str>,
    /// Its type.
    pub(crate) kind: Arc<str>,
    pub(crate) handle: AllocationHandle,
    /// A worker has connected from it.
    pub(crate) has_worked: bool,
}

/// The way to the task. Cheap to clone; the task ends with the last one.
#[derive(Clone)]
pub(crate) struct Allocator {
    inbox: mpsc::UnboundedSender<Message>,
}

enum Message {
    Want(Box<Wish>),
    Track(Box<Tracked>, Handle),
    Withdraw(Who),
    Cancel(Who),
    Worked(Who),
    Left(Who),
    BePatient(Who, Duration),
    Nudge,
    Forgive(WorkflowId),
    Answer(Answer),
}

/// What a scheduler answered.
enum Answer {
    Found(Who, Result<Option<AllocationHandle>, SchedulerError>),
    Submitted(Who, Result<AllocationHandle, SchedulerError>),
    /// Of a type.
    Observed(Arc<str>, Vec<(Who, AllocationHandle)>, Result<Vec<AllocationState>, SchedulerError>),
    Cancelled(Who, Result<(), SchedulerError>),
}

impl Allocator {
    /// Starts the task. `output_dir` is where workers keep their journals.
    pub(crate) fn spawn(schedulers: Arc<Schedulers>, limits: Limits, output_dir: PathBuf) -> Self {
        let (sender, inbox) = mpsc::unbounded_channel();
        let task = Task {
            schedulers,
            governors: Governors::new(limits),
            wishes: HashMap::new(),
            drivers: BTreeMap::new(),
            answers: sender.downgrade(),
            output_dir,
        };
        tokio::spawn(task.serve(inbox));
        Self { inbox: sender }
    }

    fn say(&self, message: Message) {
        // The task ends only with the server.
        let _ = self.inbox.send(message);
    }

    pub(crate) fn want(&self, wish: Wish) {
        self.say(Message::Want(Box::new(wish)));
    }

    /// Follows an allocation that a scheduler has, and tells this driver about it.
    pub(crate) fn track(&self, tracked: Tracked, driver: Handle) {
        self.say(Message::Track(Box::new(tracked), driver));
    }

    /// A wish is of no use at the moment.
    pub(crate) fn withdraw(&self, who: Who) {
        self.say(Message::Withdraw(who));
    }

    /// An allocation is not wanted any more.
    pub(crate) fn cancel(&self, who: Who) {
        self.say(Message::Cancel(who));
    }

    /// A worker has connected.
    pub(crate) fn worked(&self, who: Who) {
        self.say(Message::Worked(who));
    }

    /// A worker has gone: its allocation may have ended.
    pub(crate) fn left(&self, who: Who) {
        self.say(Message::Left(who));
    }

    /// What runs in an allocation goes on by itself for so long.
    pub(crate) fn be_patient(&self, who: Who, patience: Duration) {
        self.say(Message::BePatient(who, patience));
    }

    /// What the scheduler said last of allocations matters now, and may have changed.
    pub(crate) fn nudge(&self) {
        self.say(Message::Nudge);
    }

    /// A workflow begins anew.
    pub(crate) fn forgive(&self, workflow: WorkflowId) {
        self.say(Message::Forgive(workflow));
    }
}

struct Task {
    schedulers: Arc<Schedulers>,
    governors: Governors,
    wishes: HashMap<Who, Wish>,
    drivers: BTreeMap<Who, Handle>,
    answers: mpsc::WeakUnboundedSender<Message>,
    output_dir: PathBuf,
}

impl Task {
    async fn serve(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        loop {
            let (orders, news) = self.governors.next(now());
            self.tell(news);
            for (kind, order) in orders {
                self.perform(kind, order);
            }
            let wake_at = self.governors.wake_at().map(|at| Instant::now() + at.since(now()));
            let time = async {
                match wake_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
                () = time => {}
            }
        }
    }

    fn take(&mut self, message: Message) {
        let news = match message {
            Message::Want(wish) => {
                let Wish { who, in_doubt, .. } = *wish;
                self.drivers.insert(who, wish.driver.clone());
                let governor = self.governors.enter(who, wish.kind.clone());
                let news = governor.want(who, wish.scheduler.clone(), in_doubt);
                self.wishes.insert(who, *wish);
                news
            }
            Message::Track(tracked, driver) => {
                let Tracked { who, scheduler, kind, handle, has_worked } = *tracked;
                self.drivers.insert(who, driver);
                self.wishes.remove(&who);
                self.governors.enter(who, kind).track(who, scheduler, handle, has_worked);
                Vec::new()
            }
            Message::Withdraw(who) => {
                if self.governors.of(who).is_none_or(|governor| governor.withdraw(who)) {
                    self.forget(who, AllocationInput::Withdrawn);
                }
                Vec::new()
            }
            Message::Cancel(who) => {
                if self.governors.of(who).is_none_or(|governor| governor.cancel(who)) {
                    self.forget(who, AllocationInput::Refused("not wanted any more".to_owned()));
                }
                Vec::new()
            }
            Message::Worked(who) => self.note(who, |governor| governor.worked(who)),
            Message::Left(who) => self.note(who, |governor| governor.left(who, now())),
            Message::BePatient(who, patience) => {
                self.note(who, |governor| governor.be_patient(who, patience))
            }
            Message::Nudge => {
                self.governors.nudge(now());
                Vec::new()
            }
            Message::Forgive(workflow) => {
                self.governors.forgive(workflow);
                Vec::new()
            }
            Message::Answer(answer) => self.take_answer(answer),
        };
        self.tell(news);
    }

    /// Has the governor of an allocation take note of something, if there is one.
    fn note(&mut self, who: Who, take: impl FnOnce(&mut Governor)) -> Vec<News> {
        if let Some(governor) = self.governors.of(who) {
            take(governor);
        }
        Vec::new()
    }

    fn take_answer(&mut self, answer: Answer) -> Vec<News> {
        // A governor that has orders out is there, and its allocations are its own until it says otherwise.
        let news = match answer {
            Answer::Found(who, answer) => {
                if let Err(error) = &answer {
                    tracing::warn!(%error, "whether an allocation was asked for is not known; asked again");
                }
                self.governors.of(who).map(|governor| governor.found(who, answer, now()))
            }
            Answer::Submitted(who, answer) => {
                if let Err(error) = &answer {
                    tracing::warn!(%error, "an allocation could not be had");
                }
                self.governors.of(who).map(|governor| governor.submitted(who, answer, now()))
            }
            Answer::Observed(kind, asked, answer) => {
                if let Err(error) = &answer {
                    tracing::warn!(%error, %kind, "where allocations stand is not known at the moment");
                }
                let governor = self.governors.of_kind(&kind);
                governor.map(|governor| governor.observed(&asked, answer, now()))
            }
            Answer::Cancelled(who, answer) => {
                if let Err(error) = &answer {
                    tracing::warn!(%error, "an allocation could not be cancelled; tried again");
                }
                Some(self.note(who, |governor| governor.cancelled(who, answer, now())))
            }
        };
        news.unwrap_or_default()
    }

    /// Asks the scheduler of a type, beside this task.
    fn perform(&self, kind: Arc<str>, order: Order) {
        let schedulers = self.schedulers.clone();
        let wish =
            |who: &Who| self.wishes.get(who).map(|wish| (wish.request.clone(), wish.key.clone()));
        let answers = self.answers.clone();
        let reply = move |answer| {
            if let Some(answers) = answers.upgrade() {
                let _ = answers.send(Message::Answer(answer));
            }
        };
        match order {
            Order::Find(who) => {
                let key = wish(&who).map(|(_, key)| key).unwrap_or_default();
                tokio::spawn(async move {
                    let found = async { schedulers.ask(&kind).await?.find(&key).await };
                    reply(Answer::Found(who, found.await));
                });
            }
            Order::Submit(who) => {
                let Some((request, key)) = wish(&who) else { return };
                tokio::spawn(async move {
                    let taken = async { schedulers.ask(&kind).await?.submit(&request, &key).await };
                    reply(Answer::Submitted(who, taken.await));
                });
            }
            Order::Observe(asked) => {
                let handles: Vec<_> = asked.iter().map(|(_, handle)| handle.clone()).collect();
                tokio::spawn(async move {
                    let told = async { schedulers.ask(&kind).await?.observe(&handles).await };
                    let told = told.await;
                    reply(Answer::Observed(kind, asked, told));
                });
            }
            Order::Cancel(who, handle) => {
                tokio::spawn(async move {
                    let heard = async { schedulers.ask(&kind).await?.cancel(&handle).await };
                    reply(Answer::Cancelled(who, heard.await));
                });
            }
        }
    }

    fn tell(&mut self, news: Vec<News>) {
        for one in news {
            match one {
                News::Submitted(who, handle) => {
                    self.wishes.remove(&who);
                    self.pass_on(who, AllocationInput::Submitted(handle));
                }
                News::Refused(who, reason) => self.forget(who, AllocationInput::Refused(reason)),
                News::HeldBack(who, reason) => {
                    self.pass_on(who, AllocationInput::HeldBack(reason));
                }
                News::Observed(who, handle, state @ AllocationState::Ended { .. }) => {
                    self.end(who, handle, state);
                }
                News::Observed(who, handle, state) => {
                    self.pass_on(who, AllocationInput::Observed(handle, state, Vec::new()));
                }
            }
        }
    }

    fn pass_on(&self, who: Who, input: AllocationInput) {
        if let Some(driver) = self.drivers.get(&who) {
            driver.tell(Input::Allocation(who.1, input));
        }
    }

    fn forget(&mut self, who: Who, last_words: AllocationInput) {
        self.pass_on(who, last_words);
        self.wishes.remove(&who);
        self.governors.forget(who);
        self.drivers.remove(&who);
    }

    /// Reads what the worker of an ended allocation had written down, before anything of it is called
    /// lost.
    fn end(&mut self, who: Who, handle: AllocationHandle, state: AllocationState) {
        self.wishes.remove(&who);
        self.governors.forget(who);
        let Some(driver) = self.drivers.remove(&who) else { return };
        let path = journal::path(&self.output_dir, who.0, who.1);
        tokio::task::spawn_blocking(move || {
            let ends = journal::read(&path).unwrap_or_else(|error| {
                tracing::error!(path = %path.display(), %error, "a journal cannot be read");
                Vec::new()
            });
            let observed = AllocationInput::Observed(handle, state, ends);
            driver.tell(Input::Allocation(who.1, observed));
            // What is in it is the driver's now; a report that comes twice changes nothing.
        });
    }
}
