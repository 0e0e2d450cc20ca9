//! Scenarios for the books: what happened, what is to be done.

use super::*;
use crate::slurm::launcher::tests::single;
use torc_core::ids::JobId;

/// Books and a clock.
struct Desk {
    books: Books,
    zero: Instant,
    second: u64,
}

fn id(job: u32) -> StepId {
    StepId { job: JobId(job), ..single().id }
}

fn step(job: u32) -> Box<Step> {
    Box::new(Step { id: id(job), ..single() })
}

impl Desk {
    fn new(parallel: usize, most_steps: u32) -> Self {
        Self { books: Books::new(parallel, most_steps), zero: Instant::now(), second: 0 }
    }

    fn now(&self) -> Now {
        let instant = self.zero + Duration::from_secs(self.second);
        Now { instant, at: Timestamp(self.second * 1000) }
    }

    fn launch(&mut self, job: u32) -> Vec<String> {
        let effects = self.books.launch(step(job), self.now());
        render(&effects)
    }

    fn hear(&mut self, job: u32, line: &str) -> Vec<String> {
        let effects = self.books.hear(id(job), &[line.to_owned()], self.now());
        render(&effects)
    }

    /// Its srun creates a step of this number and starts it.
    fn run(&mut self, job: u32, number: u32) -> Vec<String> {
        let created =
            self.hear(job, &format!("srun: launching StepId=4.{number} on host n, 1 tasks"));
        assert_eq!(created, [""; 0]);
        self.hear(job, "srun: x: Node node3, 1 tasks started")
    }

    fn end(&mut self, job: u32, code: i32) -> Vec<String> {
        let effects = self.books.srun_ended(id(job), Outcome::Exited { code }, self.now());
        render(&effects)
    }

    fn signal(&mut self, job: u32, signal: StepSignal) -> Vec<String> {
        let effects = self.books.signal(id(job), signal, self.now());
        render(&effects)
    }

    /// Lets the time pass until something is due.
    fn wait(&mut self) -> Vec<String> {
        let due = self.books.deadline().expect("something is due");
        self.second = due.duration_since(self.zero).as_secs();
        let effects = self.books.mind_deadlines(self.now());
        render(&effects)
    }
}

fn render(effects: &[Effect]) -> Vec<String> {
    let one = |effect: &Effect| match effect {
        Effect::Start(step) => format!("start {}", step.id.job),
        Effect::Scancel { number, signal } => format!("signal {signal} to {number}"),
        Effect::LookUp => "look up".to_owned(),
        Effect::Dismiss(id) => format!("dismiss {}", id.job),
        Effect::Suspect { nodes, have_failed: true } => format!("{nodes} failed"),
        Effect::Suspect { nodes, have_failed: false } => format!("{nodes} unreachable"),
        Effect::Exhausted => "exhausted".to_owned(),
        Effect::Conclude(conclusion) => {
            let late = if conclusion.has_outlived_limit { " late" } else { "" };
            format!("conclude {}: {:?}{late}", conclusion.step.id.job, conclusion.reason)
        }
        Effect::Emit(StepEvent::Started { step, .. }) => format!("{} started", step.job),
        Effect::Emit(StepEvent::Ended { step, outcome, .. }) => format!("{} {outcome:?}", step.job),
        Effect::Emit(event) => format!("{event:?}"),
    };
    effects.iter().map(one).collect()
}

const UNANSWERED: &str = "srun: error: Unable to create step for job 4: Unable to contact slurm controller (connect failure)";

#[test]
fn a_step_from_launch_to_conclusion() {
    let mut desk = Desk::new(2, 40_000);
    assert_eq!(desk.launch(1), ["start 1"]);
    assert_eq!(desk.run(1, 0), ["1 started"]);
    assert_eq!(desk.end(1, 0), ["conclude 1: None"]);
    assert!(desk.books.is_empty() && desk.books.deadline().is_none());
    // What comes late is about nothing.
    assert_eq!(desk.hear(1, "srun: error: Node failure on n"), [""; 0]);
    assert_eq!(desk.end(1, 0), [""; 0]);
    assert_eq!(desk.signal(1, StepSignal::Kill), [""; 0]);
}

#[test]
fn more_than_may_run_wait_in_their_order() {
    let mut desk = Desk::new(2, 40_000);
    let started: Vec<_> = (1..=4).flat_map(|job| desk.launch(job)).collect();
    assert_eq!(started, ["start 1", "start 2"]);
    assert_eq!(desk.end(2, 0), ["conclude 2: None", "start 3"]);
    assert_eq!(desk.signal(4, StepSignal::TimeUp), ["4 TimedOut { code: None }"]);
    desk.launch(5);
    assert_eq!(desk.signal(5, StepSignal::Cancel), ["5 Cancelled"]);
    assert_eq!(desk.end(1, 0), ["conclude 1: None"]);
}

#[test]
fn a_step_is_stopped_by_its_number() {
    let mut desk = Desk::new(9, 40_000);
    desk.launch(1);
    assert_eq!(desk.signal(1, StepSignal::Cancel), [""; 0]);
    assert_eq!(desk.run(1, 7), ["1 started", "signal 15 to 7"]);
    assert_eq!(desk.signal(1, StepSignal::TimeUp), [""; 0]);
    assert_eq!(desk.wait(), ["signal 9 to 7"]);
    assert_eq!(desk.second, 30);
    assert_eq!(desk.wait(), ["signal 9 to 7"]);
    assert_eq!(desk.end(1, 137), ["conclude 1: Some(Cancelled)"]);
}

#[test]
fn a_step_without_a_number_is_looked_up() {
    let mut desk = Desk::new(9, 40_000);
    desk.launch(1);
    desk.launch(2);
    desk.launch(3);
    desk.signal(1, StepSignal::Kill);
    desk.signal(2, StepSignal::TimeUp);
    assert_eq!(desk.wait(), ["look up", "look up"]);
    let effects = desk.books.found(&HashMap::from([(id(1).to_string(), 12)]), desk.now());
    let mut effects = render(&effects);
    effects.sort();
    assert_eq!(effects, ["dismiss 2", "signal 9 to 12"]);
    assert_eq!(desk.end(2, 1), ["conclude 2: Some(TimeUp)"]);
}

#[test]
fn a_limit_of_the_step_counts_from_its_start() {
    let mut desk = Desk::new(9, 40_000);
    let mut limited = step(1);
    limited.limits.runtime = Some(Duration::from_secs(60));
    desk.books.launch(limited, desk.now());
    desk.second = 100;
    assert_eq!(desk.books.deadline(), None);
    desk.run(1, 3);
    assert_eq!(desk.wait(), ["signal 15 to 3"]);
    assert_eq!(desk.second, 160);
    assert_eq!(desk.end(1, 143), ["conclude 1: Some(TimeUp)"]);
}

#[test]
fn steps_are_asked_to_end_before_slurm_ends_them() {
    let mut desk = Desk::new(9, 40_000);
    desk.launch(1);
    desk.run(1, 3);
    desk.books.end_steps_before(Some(desk.zero + Duration::from_secs(100)));
    desk.books.end_steps_before(Some(desk.zero + Duration::from_secs(200)));
    assert_eq!(desk.books.all_asked_at(), Some(desk.zero + Duration::from_secs(170)));
    assert_eq!(desk.wait(), ["signal 15 to 3"]);
    assert_eq!(desk.second, 170, "by the lead of 30 s before");
    assert_eq!(desk.books.all_asked_at(), None, "it has been");
    assert_eq!(desk.signal(1, StepSignal::TimeUp), [""; 0], "the server says so, too");
    assert_eq!(desk.wait(), ["signal 9 to 3"]);
    assert_eq!(desk.second, 200);
    assert_eq!(desk.end(1, 137), ["conclude 1: Some(TimeUp)"]);
}

#[test]
fn slurms_own_limit_is_remembered_and_moves() {
    let mut desk = Desk::new(9, 40_000);
    desk.launch(1);
    desk.launch(2);
    desk.books.limited(id(1), Some(Duration::from_secs(60)));
    desk.run(1, 3);
    desk.run(2, 4);
    let extended = desk.books.extend(Duration::from_secs(600));
    assert_eq!(extended, [(3, Duration::from_secs(660))]);
    desk.second = 659;
    desk.launch(5);
    desk.books.limited(id(5), Some(Duration::from_secs(1)));
    desk.run(5, 5);
    desk.second = 660;
    assert_eq!(desk.end(1, 143), ["conclude 1: None late"]);
    assert_eq!(desk.end(5, 143), ["conclude 5: None late"]);
    assert_eq!(desk.end(2, 143), ["conclude 2: None"]);
}

#[test]
fn an_unanswered_step_is_tried_again() {
    let mut desk = Desk::new(1, 40_000);
    desk.launch(1);
    desk.launch(2);
    desk.hear(1, UNANSWERED);
    assert_eq!(desk.end(1, 1), ["start 2"]);
    assert_eq!(desk.wait(), [""; 0]);
    assert_eq!(desk.second, 2);
    assert_eq!(desk.end(2, 0), ["conclude 2: None", "start 1"]);
    for seconds in [4, 8, 16, 32, 60, 60] {
        let before = desk.second;
        desk.hear(1, UNANSWERED);
        assert_eq!(desk.end(1, 1), [""; 0]);
        assert_eq!(desk.wait(), ["start 1"]);
        assert_eq!(desk.second - before, seconds);
    }
    desk.hear(1, UNANSWERED);
    assert_eq!(desk.end(1, 1), ["conclude 1: None"]);
    // One that is to end is not tried again, and one that waits for it ends.
    desk.launch(3);
    desk.signal(3, StepSignal::Cancel);
    desk.hear(3, UNANSWERED);
    assert_eq!(desk.end(3, 1), ["conclude 3: Some(Cancelled)"]);
    desk.launch(4);
    desk.hear(4, UNANSWERED);
    desk.end(4, 1);
    assert_eq!(desk.signal(4, StepSignal::Cancel), ["4 Cancelled"]);
    assert!(desk.books.is_empty());
}

#[test]
fn nodes_are_suspected_once() {
    let mut desk = Desk::new(9, 40_000);
    desk.launch(1);
    assert_eq!(desk.hear(1, "srun: error: Node failure on node[3-4]"), ["node[3-4] failed"]);
    assert_eq!(desk.hear(1, "srun: error: Node failure on node[3-4]"), [""; 0]);
    desk.launch(2);
    let line = "srun: error: Task launch for StepId=4.6 failed on node node4: Communication connection failure";
    assert_eq!(desk.hear(2, line), ["node4 unreachable"]);
}

#[test]
fn the_last_steps_are_kept_for_what_is_under_way() {
    let mut desk = Desk::new(2, 100);
    desk.launch(1);
    assert_eq!(desk.run(1, 94), ["1 started"]);
    desk.launch(2);
    let created = "srun: launching StepId=4.95 on host n, 1 tasks";
    assert_eq!(desk.hear(2, created), ["exhausted"]);
    assert_eq!(desk.launch(3), ["3 Cancelled"]);
    assert_eq!(desk.end(1, 0), ["conclude 1: None"]);
    let mut desk = Desk::new(2, 40_000);
    desk.launch(1);
    let line = "srun: error: Unable to create step for job 4: Step limit reached for this job";
    assert_eq!(desk.hear(1, line), ["exhausted"]);
}

#[test]
fn what_waits_in_slurm_can_be_started_anew() {
    let mut desk = Desk::new(3, 40_000);
    (1..=4).for_each(|job| drop(desk.launch(job)));
    desk.run(1, 0);
    desk.signal(3, StepSignal::Cancel);
    assert_eq!(render(&desk.books.recall()), ["dismiss 2"]);
    // It comes before those that have waited shorter.
    assert_eq!(desk.end(2, 1), ["start 2"]);
    assert_eq!(desk.end(1, 0), ["conclude 1: None", "start 4"]);
    assert_eq!(desk.run(2, 5), ["2 started"]);
    assert_eq!(desk.end(2, 7), ["conclude 2: None"]);
    // One that was faster than its recall.
    let dismissed = render(&desk.books.recall());
    assert_eq!(dismissed, ["dismiss 4"]);
    desk.run(4, 6);
    assert_eq!(desk.end(4, 137), ["conclude 4: Some(Cancelled)"]);
}

#[test]
fn closing_leaves_nothing_waiting() {
    let mut desk = Desk::new(1, 40_000);
    desk.launch(1);
    desk.run(1, 1);
    desk.launch(2);
    let effects = desk.books.close(desk.now());
    assert_eq!(render(&effects), ["2 Cancelled"]);
    assert_eq!(desk.books.deadline(), None);
    assert_eq!(desk.end(1, 137), ["conclude 1: Some(Cancelled)"]);
}

#[test]
fn winding_up_asks_what_runs_to_end_and_starts_nothing() {
    let mut desk = Desk::new(2, 40_000);
    desk.launch(1);
    desk.run(1, 1);
    desk.launch(2);
    desk.launch(3);
    let effects = desk.books.wind_up(false, desk.now());
    assert_eq!(render(&effects), ["3 Cancelled", "signal 15 to 1"]);
    assert_eq!(desk.launch(4), ["4 Cancelled"]);
    // What had no number yet is asked once it has one.
    assert_eq!(desk.run(2, 2), ["2 started", "signal 15 to 2"]);
    assert_eq!(desk.end(1, 0), ["conclude 1: Some(Cancelled)"]);
    assert!(!desk.books.is_empty());
    assert_eq!(desk.end(2, 0), ["conclude 2: Some(Cancelled)"]);
    assert!(desk.books.is_empty());
}

#[test]
fn winding_up_leaves_alone_what_slurm_has_asked_to_end() {
    let mut desk = Desk::new(2, 40_000);
    desk.launch(1);
    desk.run(1, 1);
    desk.launch(2);
    let effects = desk.books.wind_up(true, desk.now());
    assert_eq!(render(&effects), [""; 0]);
    assert_eq!(desk.end(1, 0), ["conclude 1: None"]);
    // It cannot have been asked, and would be tried again.
    let line =
        "srun: error: Unable to create step for job 4: Job/step already completing or completed";
    desk.hear(2, line);
    assert_eq!(desk.end(2, 1), ["conclude 2: Some(Cancelled)"]);
}
