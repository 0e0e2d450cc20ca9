//! An allocation that moves, stands still and ends while a run is inside it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use torc_core::ids::{AttemptId, JobId, RunId, WorkflowId};
use torc_core::traits::{AllocationEnd, Usage};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const MARGIN: Duration = Duration::from_secs(15);

/// A watch over an allocation of which the scheduler says what the test does.
struct Site {
    said: Arc<Mutex<AllocationState>>,
    /// How long its answers take; they are of when they were asked.
    takes: Arc<Mutex<Duration>>,
    asked: Arc<AtomicU32>,
    wound_up: Arc<AtomicU32>,
    told: mpsc::UnboundedReceiver<Input>,
    reports: mpsc::UnboundedSender<StepEvent>,
    notices: mpsc::UnboundedReceiver<String>,
}

impl Site {
    /// An allocation that ends then, in which the run's own time is up by `limit`.
    fn new(ends_at: Option<Timestamp>, limit: Option<Timestamp>) -> Self {
        let said = Arc::new(Mutex::new(AllocationState::Running { ends_at }));
        let takes = Arc::new(Mutex::new(Duration::ZERO));
        let (asked, wound_up) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (handle, told) = Handle::of_driver();
        let (reports, reported) = mpsc::unbounded_channel();
        let (notices_in, notices) = mpsc::unbounded_channel();
        let (saying, asking, ending) = (said.clone(), asked.clone(), wound_up.clone());
        let taking = takes.clone();
        let watch = Watch {
            allocation: AllocationId(1),
            ends_at: earlier(ends_at, limit),
            limit,
            margin: MARGIN,
            observe: Box::new(move || {
                asking.fetch_add(1, Ordering::Relaxed);
                let state = saying.lock().expect("nobody panicked").clone();
                let answers_at = Instant::now() + *taking.lock().expect("nobody panicked");
                Box::pin(async move {
                    sleep_until(answers_at).await;
                    state
                })
            }),
            wind_up: Some(Arc::new(move || {
                ending.fetch_add(1, Ordering::Relaxed);
                Box::pin(async {})
            })),
            reports: reported,
            handle,
            notices: notices_in,
        };
        tokio::spawn(watch.run());
        Self { said, takes, asked, wound_up, told, reports, notices }
    }

    fn say(&self, state: AllocationState) {
        *self.said.lock().expect("nobody panicked") = state;
    }

    fn end(&self, cause: AllocationEnd) {
        self.say(AllocationState::Ended { cause, reason: "CANCELLED".to_owned() });
    }

    fn take_so_long(&self, takes: Duration) {
        *self.takes.lock().expect("nobody panicked") = takes;
    }

    fn report(&self, outcome: Outcome) {
        self.reports.send(ended(1, outcome)).expect("it is there");
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    /// What the driver is told next, within so long.
    async fn next(&mut self, within: Duration) -> Option<&'static str> {
        let input = timeout(within, self.told.recv()).await.ok()?.expect("it is there");
        Some(match input {
            Input::Worker(WorkerInput::EndMoved(AllocationId(1), None)) => "no end",
            Input::Worker(WorkerInput::EndMoved(AllocationId(1), Some(_))) => "another end",
            Input::Worker(WorkerInput::Suspended(AllocationId(1), true)) => "suspended",
            Input::Worker(WorkerInput::Suspended(AllocationId(1), false)) => "resumed",
            Input::Step(StepEvent::Ended { outcome: Outcome::Lost, .. }, None) => "lost",
            Input::Step(StepEvent::Ended { .. }, None) => "ended",
            Input::StopUnasked => "stop",
            _ => "something else",
        })
    }
}

fn nth_step(job: u32) -> StepId {
    let (workflow, job) = (WorkflowId(1), JobId(job));
    StepId { workflow, job, run: RunId(1), attempt: AttemptId::FIRST }
}

fn ended(job: u32, outcome: Outcome) -> StepEvent {
    let usage = Usage::default();
    StepEvent::Ended { step: nth_step(job), at: Timestamp(7), outcome, usage }
}

fn in_minutes(minutes: u32) -> Option<Timestamp> {
    Some(now() + MINUTE * minutes)
}

fn running(ends_at: Option<Timestamp>) -> AllocationState {
    AllocationState::Running { ends_at }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_moves_is_told_once() {
    let mut site = Site::new(in_minutes(60), None);
    assert_eq!(site.next(MINUTE * 3).await, None, "it is as it was");
    site.say(running(in_minutes(120)));
    assert_eq!(site.next(MINUTE * 2).await, Some("another end"));
    assert_eq!(site.next(MINUTE * 3).await, None);
    site.say(running(None));
    assert_eq!(site.next(MINUTE * 2).await, Some("no end"));
    assert!(site.asked() >= 6, "it is asked each minute");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_the_run_itself_does_not_move() {
    let mut site = Site::new(in_minutes(60), in_minutes(10));
    site.say(running(in_minutes(120)));
    assert_eq!(site.next(MINUTE * 3).await, None);
    site.say(running(in_minutes(5)));
    assert_eq!(site.next(MINUTE * 2).await, Some("another end"), "it ends before that");
}

#[tokio::test(start_paused = true)]
async fn the_end_is_asked_for_shortly_before_it_matters() {
    let mut site = Site::new(Some(now() + Duration::from_secs(40)), None);
    site.say(running(in_minutes(60)));
    let before = Duration::from_secs(40) - MARGIN;
    assert_eq!(site.next(before).await, Some("another end"));
}

#[tokio::test(start_paused = true)]
async fn what_stands_still_does_not_come_to_its_end() {
    let mut site = Site::new(in_minutes(60), None);
    site.say(AllocationState::Suspended);
    assert_eq!(site.next(MINUTE * 2).await, Some("suspended"));
    assert_eq!(site.next(MINUTE * 2).await, None);
    site.say(running(in_minutes(90)));
    assert_eq!(site.next(MINUTE * 2).await, Some("another end"), "before the old one can pass");
    assert_eq!(site.next(MINUTE).await, Some("resumed"));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_went_with_the_allocation_is_told_after_the_stop() {
    let mut site = Site::new(in_minutes(60), None);
    site.end(AllocationEnd::Cancelled);
    site.report(Outcome::Exited { code: 1 });
    site.report(Outcome::Lost);
    site.report(Outcome::Lost);
    let short = Duration::from_secs(1);
    for expected in ["ended", "stop", "lost", "lost"] {
        assert_eq!(site.next(short).await, Some(expected));
    }
    assert_eq!(site.next(MINUTE * 5).await, None);
    assert_eq!(site.asked(), 1, "it is over");
    assert_eq!(site.wound_up.load(Ordering::Relaxed), 1);
    let notice = site.notices.recv().await.expect("it is told");
    assert_eq!(notice, "the allocation is over (CANCELLED); nothing more starts");
}

#[tokio::test(start_paused = true)]
async fn steps_that_end_together_share_a_question_and_hold_up_no_other() {
    let mut site = Site::new(in_minutes(60), None);
    site.take_so_long(Duration::from_secs(5));
    for job in 1..=100 {
        let outcome = if job % 2 == 0 { Outcome::Lost } else { Outcome::Preempted };
        site.reports.send(ended(job, outcome)).expect("it is there");
    }
    site.report(Outcome::Exited { code: 0 });
    site.reports.send(ended(101, Outcome::Exited { code: 0 })).expect("it is there");
    let short = Duration::from_secs(1);
    assert_eq!(site.next(short).await, Some("ended"), "another step's");
    assert_eq!(site.next(short).await, None, "what comes of a step that waits, waits");
    assert_eq!(site.next(MINUTE / 10).await, Some("ended"), "the first of them");
    for _ in 2..=101 {
        let told = site.next(Duration::ZERO).await.expect("they are told together");
        assert!(matches!(told, "lost" | "ended"), "{told}");
    }
    assert_eq!(site.next(short).await, None);
    assert_eq!(site.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_not_taken_for_what_came_after_the_question() {
    let mut site = Site::new(in_minutes(60), None);
    site.take_so_long(Duration::from_secs(5));
    site.report(Outcome::Preempted);
    let short = Duration::from_secs(1);
    assert_eq!(site.next(short).await, None);
    site.end(AllocationEnd::Cancelled);
    site.reports.send(ended(2, Outcome::Lost)).expect("it is there");
    site.reports.send(ended(3, Outcome::Lost)).expect("it is there");
    let long = Duration::from_secs(6);
    assert_eq!(site.next(long).await, Some("ended"), "that one was not taken away");
    assert_eq!(site.next(short).await, None);
    for expected in ["stop", "lost", "lost"] {
        assert_eq!(site.next(long).await, Some(expected));
    }
    assert_eq!(site.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_answered_holds_reports_up_for_a_while_only() {
    let mut site = Site::new(in_minutes(60), None);
    site.take_so_long(MINUTE * 60);
    site.report(Outcome::Lost);
    assert_eq!(site.next(ANSWER_WITHIN / 2).await, None);
    site.reports.send(ended(2, Outcome::Lost)).expect("it is there");
    drop(std::mem::replace(&mut site.reports, mpsc::unbounded_channel().0));
    assert_eq!(site.next(ANSWER_WITHIN).await, Some("lost"));
    assert_eq!(site.next(ANSWER_WITHIN / 2).await, None, "it came later");
    assert_eq!(site.next(ANSWER_WITHIN).await, Some("lost"), "also when nothing else can come");
}

#[test]
fn the_reports_of_a_step_stay_in_order() {
    let mut held = Held::default();
    let started = |job| StepEvent::Started { step: nth_step(job), at: Timestamp(8) };
    assert_eq!(held.pass(started(1)), Some(started(1)));
    assert_eq!(held.pass(ended(1, Outcome::Lost)), None);
    assert_eq!(held.pass(started(1)), None);
    assert_eq!(held.pass(started(2)), Some(started(2)));
    held.ask();
    assert_eq!(held.pass(ended(1, Outcome::Preempted)), None);
    let told: Vec<_> = held.answered(false).collect();
    assert_eq!(told, [ended(1, Outcome::Lost), started(1)]);
    assert!(held.has_new() && held.pass(started(1)).is_none());
    held.ask();
    let told: Vec<_> = held.answered(false).collect();
    assert_eq!(told, [ended(1, Outcome::Preempted), started(1)]);
    assert!(held.is_empty() && held.pass(started(1)).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_end_without_steps_is_seen_too() {
    for state in [
        AllocationState::Ended { cause: AllocationEnd::Unknown, reason: String::new() },
        AllocationState::Completing,
        AllocationState::Pending { reason: String::new(), expected_start: None },
    ] {
        let mut site = Site::new(in_minutes(60), None);
        site.say(state);
        assert_eq!(site.next(MINUTE * 2).await, Some("stop"));
        assert_eq!(site.next(MINUTE * 5).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_says_nothing() {
    let mut site = Site::new(in_minutes(60), None);
    for state in [
        AllocationState::Unknown,
        AllocationState::Configuring,
        AllocationState::Unclear { words: "NEW".to_owned() },
    ] {
        site.say(state);
        site.report(Outcome::Lost);
        assert_eq!(site.next(MINUTE).await, Some("lost"));
        assert_eq!(site.next(MINUTE * 2).await, None);
    }
    assert_eq!(site.wound_up.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_knows_how_to_end_each_step_is_asked() {
    let (handle, mut told) = Handle::of_driver();
    stop(&handle, None);
    assert!(matches!(told.recv().await, Some(Input::Stop)));
}
