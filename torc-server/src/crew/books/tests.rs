//! What follows from what happens, told as stories, and checked on random ones.

use std::collections::BTreeSet;

use proptest::prelude::*;
use torc_core::traits::{StepSignal, Usage};

use super::nodes::{BETWEEN_RETURNS, MOST_RETURNS};
use super::steps::ended;
use super::*;
use crate::crew::doubts::BETWEEN_QUESTIONS;
use crate::crew::tests::{self, id};

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

fn step(job: u32, nodes: &[&str]) -> Box<Step> {
    Box::new(tests::step(job, "true", nodes))
}

/// Books in a test, and the time there.
struct Site {
    books: Books,
    now: Now,
}

impl Site {
    fn new() -> Self {
        let now = Now { instant: Instant::now(), at: Timestamp(1000) };
        let books = Books::new(AllocationId(1), NAMES.map(Into::into), now);
        Self { books, now }
    }

    /// All workers have come.
    fn full() -> Self {
        let mut site = Self::new();
        for (place, name) in NAMES.into_iter().enumerate() {
            let welcome = vec![Effect::Say(place, ToNode::Welcome)];
            assert_eq!(site.books.join(name), Ok((place, welcome)));
        }
        site
    }

    fn launch(&mut self, job: u32, nodes: &[&str]) -> Vec<Effect> {
        self.books.launch(step(job, nodes), self.now)
    }

    fn report(&mut self, place: Place, job: u32, outcome: Outcome) -> Vec<Effect> {
        let event =
            StepEvent::Ended { step: id(job), at: self.now.at, outcome, usage: Usage::default() };
        self.books.report(place, event, self.now)
    }

    fn pass(&mut self, time: Duration) -> Vec<Effect> {
        self.now.instant += time;
        self.books.mind_deadlines(self.now)
    }

    fn names(&self, names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }
}

fn end(job: u32, outcome: Outcome) -> Effect {
    let now = Now { instant: Instant::now(), at: Timestamp(1000) };
    ended(id(job), outcome, now)
}

/// What these jobs on one node may have left is to be ended.
fn clear(jobs: &[u32]) -> Effect {
    let traces = |job: &u32| Traces { step: id(*job), whole_nodes: Vec::new(), sruns: Vec::new() };
    Effect::Clear(jobs.iter().map(traces).collect())
}

fn changed(node: &str, state: NodeState, reason: &str) -> Effect {
    Effect::Emit(StepEvent::NodeChanged {
        allocation: AllocationId(1),
        node: node.into(),
        at: Timestamp(1000),
        state,
        reason: reason.to_owned(),
    })
}

fn down(node: &str, reason: &str) -> Effect {
    changed(node, NodeState::Down, reason)
}

/// Its worker is gone, and may be started again.
fn cut(node: &str, reason: &str) -> Effect {
    changed(node, NodeState::Draining, &format!("its worker is gone: {reason}"))
}

const DONE: Outcome = Outcome::Exited { code: 0 };
const FAILED: Outcome = Outcome::Exited { code: 3 };

#[test]
fn a_step_goes_to_the_worker_of_its_first_node_once_that_has_come() {
    let mut site = Site::new();
    assert_eq!(site.launch(1, &["n2", "n3"]), []);
    assert_eq!(site.launch(1, &["n2", "n3"]), [], "twice is once");
    assert_eq!(site.books.join("n3"), Ok((2, vec![Effect::Say(2, ToNode::Welcome)])));
    let orders = vec![
        Effect::Say(1, ToNode::Welcome),
        Effect::Say(1, ToNode::Launch(step(1, &["n2", "n3"]))),
    ];
    assert_eq!(site.books.join("n2"), Ok((1, orders)));
    assert_eq!(site.launch(2, &["n3"]), [Effect::Say(2, ToNode::Launch(step(2, &["n3"])))]);
    assert_eq!(site.report(1, 1, DONE), [end(1, DONE)]);
    assert_eq!(site.report(1, 1, DONE), [], "it has ended");
    assert_eq!(site.report(1, 2, DONE), [], "it is another's");
    let [Effect::Emit(StepEvent::Ended { outcome: Outcome::LaunchFailed { reason, .. }, .. })] =
        &site.launch(3, &["n1", "n9"])[..]
    else {
        panic!("it has no such node");
    };
    assert_eq!(reason, "the allocation has no such node: n1, n9");
}

#[test]
fn one_worker_is_taken_in_for_each_node_of_the_allocation() {
    let mut site = Site::full();
    let refused =
        |reason: &str, may_ask_again| Err(Refusal { reason: reason.to_owned(), may_ask_again });
    assert_eq!(site.books.join("n9"), refused("the allocation has no node n9", false));
    let second = refused("n1 has a worker already", true);
    assert_eq!(site.books.join("n1"), second, "the first may be gone, and its end not noticed");
    site.books.leave(0, "reset", site.now);
    let lost = refused("n1 is not used any more: its worker is gone: reset", false);
    assert_eq!(site.books.join("n1"), lost);
    site.pass(LEASE);
    assert_eq!(site.books.join("n1"), lost);
}

#[test]
fn a_signal_for_a_step_that_still_waits_ends_it() {
    let mut site = Site::new();
    site.launch(1, &["n1"]);
    let signal = |site: &mut Site| site.books.signal(id(1), StepSignal::Kill, site.now);
    assert_eq!(signal(&mut site), [end(1, Outcome::Cancelled)]);
    assert_eq!(signal(&mut site), []);
    site.books.join("n1").unwrap();
    site.launch(1, &["n1"]);
    let passed_on = Effect::Say(0, ToNode::Signal(id(1), StepSignal::Kill));
    assert_eq!(signal(&mut site), [passed_on]);
}

#[test]
fn what_a_lost_worker_ran_ends_when_its_lease_is_over() {
    let mut site = Site::full();
    site.launch(1, &["n1"]);
    site.launch(2, &["n2"]);
    assert_eq!(site.books.leave(0, "reset", site.now), [cut("n1", "reset")]);
    assert_eq!(site.launch(3, &["n1"]), [end(3, Outcome::NodeFailed)], "it goes elsewhere");
    assert_eq!(site.pass(LEASE / 2), [], "it may still run");
    let over = down("n1", "its worker is gone: reset");
    assert_eq!(site.pass(LEASE / 2), [over, clear(&[1])]);
    assert_eq!(site.books.cleared(&[id(1)], site.now), [end(1, Outcome::Lost)]);
    assert_eq!(site.report(1, 2, DONE), [end(2, DONE)], "the others go on");
}

#[test]
fn a_worker_of_which_slurm_says_that_it_ended_is_heard_to_its_last_word() {
    let mut site = Site::full();
    site.launch(1, &["n1"]);
    site.launch(2, &["n1"]);
    let names = site.names(&["n1"]);
    assert_eq!(site.books.workers_ended(&names, "Killed", site.now), []);
    assert_eq!(site.report(0, 1, DONE), [end(1, DONE)]);
    let gone = "its worker has ended: Killed";
    let over = [down("n1", gone), Effect::Dismiss(0), clear(&[2])];
    assert_eq!(site.books.leave(0, "closed", site.now), over);
    assert_eq!(site.books.workers_ended(&names, "again", site.now), []);
}

#[test]
fn when_the_connection_went_first_slurms_word_ends_the_wait() {
    let mut site = Site::full();
    site.launch(1, &["n1"]);
    site.books.leave(0, "reset", site.now);
    let names = site.names(&["n1", "n7"]);
    let over = [down("n1", "its worker has ended: Killed"), clear(&[1])];
    assert_eq!(site.books.workers_ended(&names, "Killed", site.now), over);
    assert_eq!(site.books.cleared(&[id(1)], site.now), [end(1, Outcome::Lost)]);
    assert_eq!(site.books.deadline(), None);
}

#[test]
fn a_node_that_failed_is_gone_at_once() {
    let mut site = Site::full();
    site.launch(1, &["n1"]);
    let names = site.names(&["n1"]);
    let over = [down("n1", "it failed"), Effect::Dismiss(0), end(1, Outcome::NodeFailed)];
    assert_eq!(site.books.nodes_failed(&names, "it failed", site.now), over);
    assert_eq!(site.books.node_is("n1", NodeState::Up, "IDLE", site.now), [], "for good");
}

#[test]
fn the_gang_of_a_lost_node_is_ended_where_it_runs() {
    let mut site = Site::full();
    site.launch(1, &["n1", "n2"]);
    site.launch(2, &["n3"]);
    let names = site.names(&["n2"]);
    let effects = site.books.nodes_failed(&names, "it failed", site.now);
    let kill = Effect::Say(0, ToNode::Signal(id(1), StepSignal::Kill));
    assert_eq!(effects, [down("n2", "it failed"), Effect::Dismiss(1), kill]);
    assert_eq!(site.report(0, 1, Outcome::Cancelled), [end(1, Outcome::NodeFailed)]);
    site.launch(3, &["n1", "n3"]);
    let names = site.names(&["n3"]);
    site.books.nodes_failed(&names, "it failed", site.now);
    assert_eq!(site.report(0, 3, DONE), [end(3, DONE)], "it had ended before");
}

#[test]
fn what_a_gang_left_is_ended_first_when_its_first_node_is_lost() {
    let mut site = Site::full();
    site.launch(1, &["n1", "n2"]);
    let names = site.names(&["n1"]);
    let effects = site.books.nodes_failed(&names, "it failed", site.now);
    let whole_nodes = site.names(&["n1", "n2"]);
    let clear = Effect::Clear(vec![Traces { step: id(1), whole_nodes, sruns: Vec::new() }]);
    assert_eq!(effects, [down("n1", "it failed"), Effect::Dismiss(0), clear]);
    let names = site.names(&["n2"]);
    let effects = site.books.nodes_failed(&names, "it failed", site.now);
    assert_eq!(effects, [down("n2", "it failed"), Effect::Dismiss(1)]);
    assert_eq!(site.books.cleared(&[id(1)], site.now), [end(1, Outcome::NodeFailed)]);
    assert_eq!(site.books.cleared(&[id(1)], site.now), []);
}

#[test]
fn a_worker_that_does_not_come_is_not_waited_for_without_end() {
    let mut site = Site::new();
    site.launch(1, &["n1"]);
    site.books.join("n2").unwrap();
    assert_eq!(site.books.deadline(), Some(site.now.instant + COMES_WITHIN));
    let effects = site.pass(COMES_WITHIN);
    let late = |name| down(name, "its worker did not come within 180 s");
    assert_eq!(effects, [late("n1"), end(1, Outcome::NodeFailed), late("n3")]);
    assert_eq!(site.books.deadline(), None);
}

#[test]
fn a_leader_that_stood_still_gives_its_workers_more_time() {
    let mut site = Site::new();
    site.books.join("n1").unwrap();
    site.books.leave(0, "reset", site.now);
    let more = Duration::from_secs(600);
    site.books.give_time(more);
    assert_eq!(site.pass(more), []);
    assert_eq!(site.pass(LEASE), [down("n1", "its worker is gone: reset")]);
    assert_eq!(site.books.join("n2").map(|(place, _)| place), Ok(1));
    assert_eq!(site.pass(COMES_WITHIN).len(), 1, "of the third the wait is over");
}

#[test]
fn slurms_word_on_a_node_is_passed_on_once() {
    let mut site = Site::full();
    let draining = site.books.node_is("n1", NodeState::Draining, "DRAIN", site.now);
    assert_eq!(draining.len(), 1);
    assert_eq!(site.books.node_is("n1", NodeState::Draining, "DRAIN", site.now), []);
    assert_eq!(site.books.node_is("n1", NodeState::Up, "MIXED", site.now).len(), 1);
    let down = site.books.node_is("n1", NodeState::Down, "DOWN", site.now);
    assert_eq!(down.len(), 2, "told, and dismissed");
    assert_eq!(site.books.node_is("n9", NodeState::Down, "DOWN", site.now), []);
}

#[test]
fn a_failure_is_the_jobs_own_only_if_the_allocation_lives_afterwards() {
    #[track_caller]
    fn check(standing: Standing, expected: Outcome) {
        let mut site = Site::full();
        site.launch(1, &["n1"]);
        site.launch(2, &["n2"]);
        assert_eq!(site.report(0, 1, FAILED), [Effect::AskStanding]);
        assert_eq!(site.report(1, 2, FAILED), [], "one question is under way");
        let asked = site.now.instant;
        let effects = site.books.stands(standing, asked);
        assert_eq!(effects, [end(1, expected.clone()), end(2, expected)]);
    }
    check(Standing::Lives, FAILED);
    check(Standing::Ended, Outcome::Lost);
    check(Standing::Preempted, Outcome::Preempted);
}

#[test]
fn an_answer_from_before_a_failure_says_nothing_about_it() {
    let mut site = Site::full();
    site.launch(1, &["n1"]);
    site.launch(2, &["n2"]);
    site.report(0, 1, Outcome::Signaled { signal: 15 });
    let asked = site.now.instant;
    site.now.instant += Duration::from_millis(1);
    assert_eq!(site.report(1, 2, FAILED), []);
    let first = [end(1, Outcome::Signaled { signal: 15 })];
    assert_eq!(site.books.stands(Standing::Lives, asked), first);
    assert_eq!(site.books.deadline(), Some(asked + BETWEEN_QUESTIONS), "not at once again");
    assert_eq!(site.pass(BETWEEN_QUESTIONS), [Effect::AskStanding]);
    let second = site.now.instant;
    assert_eq!(site.books.stands(Standing::Ended, second), [end(2, Outcome::Lost)]);
}

#[test]
fn a_job_that_its_worker_ended_by_itself_goes_back_to_the_queue() {
    let mut site = Site::full();
    site.launch(1, &["n1"]);
    assert_eq!(site.report(0, 1, Outcome::Cancelled), [Effect::AskStanding]);
    let asked = site.now.instant;
    assert_eq!(site.books.stands(Standing::Lives, asked), [end(1, Outcome::Lost)]);
    site.launch(2, &["n1"]);
    site.books.wind_up(false, site.now);
    let all = [end(2, Outcome::Cancelled)];
    assert_eq!(site.report(0, 2, Outcome::Cancelled), all, "as at the end of all");
}

#[test]
fn many_failures_share_a_question() {
    let mut site = Site::full();
    for job in 1..4 {
        site.launch(job, &["n1"]);
    }
    assert_eq!(site.report(0, 1, FAILED), [Effect::AskStanding]);
    let asked = site.now.instant;
    assert_eq!(site.books.stands(Standing::Lives, asked), [end(1, FAILED)]);
    assert_eq!(site.report(0, 2, FAILED), [], "one was just asked");
    assert_eq!(site.report(0, 3, FAILED), []);
    assert_eq!(site.pass(BETWEEN_QUESTIONS), [Effect::AskStanding]);
    let again = site.now.instant;
    let both = [end(2, FAILED), end(3, FAILED)];
    assert_eq!(site.books.stands(Standing::Lives, again), both);
    assert_eq!(site.books.deadline(), None);
}

#[test]
fn a_gang_that_fails_after_one_of_its_workers_is_lost_has_not_failed_itself() {
    let mut site = Site::full();
    site.launch(1, &["n1", "n2"]);
    site.books.leave(1, "silent", site.now);
    assert_eq!(site.report(0, 1, FAILED), [end(1, Outcome::Lost)]);
}

/// A gang on all three nodes has failed; its probes.
fn failed_gang() -> Site {
    let mut site = Site::full();
    site.launch(1, &NAMES);
    let probe = |place| Effect::Say(place, ToNode::Probe(id(1)));
    assert_eq!(site.report(0, 1, FAILED), [probe(1), probe(2), Effect::AskStanding]);
    site
}

#[test]
fn the_failure_of_a_gang_is_its_own_once_all_its_workers_have_shown_that_they_are_there() {
    let mut site = failed_gang();
    assert_eq!(site.books.heard(1, id(1)), []);
    assert_eq!(site.books.stands(Standing::Lives, site.now.instant), [], "one is unheard");
    assert_eq!(site.books.heard(2, id(1)), [end(1, FAILED)]);
    assert_eq!(site.books.heard(2, id(1)), []);
    let mut site = failed_gang();
    assert_eq!(site.books.heard(2, id(1)), []);
    assert_eq!(site.books.heard(1, id(1)), []);
    assert_eq!(site.books.stands(Standing::Lives, site.now.instant), [end(1, FAILED)]);
    let mut site = failed_gang();
    let over = site.books.stands(Standing::Ended, site.now.instant);
    assert_eq!(over, [end(1, Outcome::Lost)], "whoever is there");
}

#[test]
fn the_failure_of_a_gang_is_that_of_a_node_that_turns_out_to_be_lost() {
    let mut site = failed_gang();
    let silent = site.books.leave(2, "silent", site.now);
    assert_eq!(silent, [cut("n3", "silent"), end(1, Outcome::Lost)]);
    assert_eq!(site.books.stands(Standing::Lives, site.now.instant), []);
    let mut site = failed_gang();
    let names = site.names(&["n2"]);
    let failed = site.books.nodes_failed(&names, "it failed", site.now);
    assert_eq!(failed, [down("n2", "it failed"), Effect::Dismiss(1), end(1, Outcome::NodeFailed)]);
}

#[test]
fn a_worker_that_has_left_as_it_was_told_was_there() {
    let mut site = failed_gang();
    site.books.stands(Standing::Lives, site.now.instant);
    site.books.wind_up(false, site.now);
    assert_eq!(site.books.heard(1, id(1)), []);
    assert_eq!(site.books.leave(2, "closed", site.now), [end(1, FAILED)]);
    let mut site = Site::full();
    site.launch(1, &["n1"]);
    site.books.wind_up(false, site.now);
    assert_eq!(site.report(0, 1, FAILED), [Effect::AskStanding]);
    assert_eq!(site.books.leave(0, "closed", site.now), [], "it has told all");
    assert_eq!(site.books.stands(Standing::Lives, site.now.instant), [end(1, FAILED)]);
    let mut site = Site::full();
    site.launch(1, &["n1", "n2"]);
    site.books.wind_up(false, site.now);
    assert_eq!(site.books.leave(1, "closed", site.now), []);
    site.report(0, 1, FAILED);
    let own = [end(1, FAILED)];
    assert_eq!(site.books.stands(Standing::Lives, site.now.instant), own, "nothing is lost");
}

#[test]
fn nodes_that_could_not_be_given_back_are_given_back_later() {
    let mut site = Site::new();
    assert!(site.books.release("n2", Parting::GoesBack, site.now).contains(&Effect::GiveBack));
    let other = site.books.release("n3", Parting::GoesBack, site.now);
    assert_eq!(other, [down("n3", "it was given back")], "one attempt is under way");
    assert_eq!(site.books.given_back(false, site.now), []);
    assert_eq!(site.books.deadline(), Some(site.now.instant + BETWEEN_RETURNS));
    for attempt in 2..=MOST_RETURNS {
        assert_eq!(site.pass(BETWEEN_RETURNS), [Effect::GiveBack], "attempt {attempt}");
        assert_eq!(site.books.given_back(false, site.now), []);
    }
    assert_eq!(site.pass(BETWEEN_RETURNS), [], "they go with the allocation");
}

#[test]
fn what_torc_itself_ended_needs_no_question() {
    let mut site = Site::full();
    for job in 1..5 {
        site.launch(job, &["n1"]);
    }
    site.books.signal(id(1), StepSignal::Cancel, site.now);
    assert_eq!(site.report(0, 1, FAILED), [end(1, FAILED)]);
    for (job, outcome) in [
        (2, Outcome::OutOfMemory { used: Some(7) }),
        (3, Outcome::TimedOut { code: None }),
        (4, Outcome::FilesMissing { files: vec!["x".into()] }),
    ] {
        assert_eq!(site.report(0, job, outcome.clone()), [end(job, outcome)]);
    }
}

#[test]
fn at_the_end_what_waits_is_cancelled_and_the_rest_is_waited_for() {
    let mut site = Site::new();
    site.books.join("n1").unwrap();
    site.launch(1, &["n1"]);
    site.launch(2, &["n2"]);
    assert!(!site.books.is_done());
    let wind_up = Effect::Say(0, ToNode::WindUp);
    let effects = site.books.wind_up(false, site.now);
    assert_eq!(effects, [end(2, Outcome::Cancelled), wind_up.clone()]);
    assert_eq!(site.books.wind_up(false, site.now), []);
    assert_eq!(site.launch(3, &["n1"]), [end(3, Outcome::Cancelled)]);
    let late = vec![Effect::Say(2, ToNode::Welcome), Effect::Say(2, ToNode::WindUp)];
    assert_eq!(site.books.join("n3"), Ok((2, late)));
    assert_eq!(site.report(0, 1, DONE), [end(1, DONE)]);
    assert!(!site.books.is_done(), "they have not left");
    assert_eq!(site.books.leave(0, "closed", site.now), []);
    assert_eq!(site.books.leave(2, "closed", site.now), []);
    assert!(site.books.is_done());
}

#[test]
fn what_ends_while_slurm_takes_the_allocation_away_is_not_the_jobs_doing() {
    let mut site = Site::full();
    for job in 1..4 {
        site.launch(job, &["n1"]);
    }
    site.report(0, 1, FAILED);
    assert_eq!(site.books.wind_up(true, site.now)[0], end(1, Outcome::Lost));
    assert_eq!(site.report(0, 2, Outcome::Signaled { signal: 15 }), [end(2, Outcome::Lost)]);
    assert_eq!(site.report(0, 3, DONE), [end(3, DONE)]);
}

#[test]
fn a_node_on_which_nothing_runs_can_be_given_back() {
    let mut site = Site::full();
    site.launch(1, &["n2"]);
    let release = |site: &mut Site, name| site.books.release(name, Parting::GoesBack, site.now);
    assert_eq!(release(&mut site, "n1"), [], "the allocation ends with the first");
    assert_eq!(release(&mut site, "n2"), [], "a job runs there");
    assert_eq!(release(&mut site, "n9"), []);
    let wind_up = Effect::Say(2, ToNode::WindUp);
    assert_eq!(release(&mut site, "n3"), [wind_up]);
    assert_eq!(release(&mut site, "n3"), [], "it was told");
    let over = [down("n3", "it was given back"), Effect::Dismiss(2), Effect::GiveBack];
    assert_eq!(site.books.leave(2, "closed", site.now), over);
    assert_eq!(site.books.kept(), ["n1", "n2"]);
    assert_eq!(site.launch(2, &["n3"]), [end(2, Outcome::NodeFailed)]);
    assert_eq!(site.report(1, 1, DONE), [end(1, DONE)], "the others go on");
}

#[test]
fn a_node_whose_worker_has_not_come_can_be_given_back() {
    let mut site = Site::new();
    let effects = site.books.release("n2", Parting::GoesBack, site.now);
    assert_eq!(effects, [down("n2", "it was given back"), Effect::GiveBack]);
    assert_eq!(site.books.kept(), ["n1", "n3"]);
    assert!(site.books.join("n2").is_err());
}

#[test]
fn a_worker_may_leave_and_its_node_stay() {
    let mut site = Site::full();
    let wind_up = Effect::Say(1, ToNode::WindUp);
    assert_eq!(site.books.release("n2", Parting::Stays, site.now), [wind_up]);
    let reason = "its worker has left: nothing more could run there";
    let over = [down("n2", reason), Effect::Dismiss(1)];
    assert_eq!(site.books.leave(1, "closed", site.now), over, "the scheduler is asked nothing");
    assert!(site.books.join("n2").is_err());
    let mut site = Site::new();
    assert_eq!(site.books.release("n2", Parting::Stays, site.now), [], "it has not come yet");
    let orders = [ToNode::Welcome, ToNode::WindUp].map(|order| Effect::Say(1, order));
    assert_eq!(site.books.join("n2"), Ok((1, orders.into())));
}

#[test]
fn a_node_that_is_to_be_given_back_is_whatever_happens_to_its_worker() {
    let mut site = Site::full();
    let names = site.names(&["n2"]);
    site.books.release("n2", Parting::GoesBack, site.now);
    assert_eq!(site.books.start_again(&names, site.now), []);
    assert!(site.books.leave(1, "closed", site.now).contains(&Effect::GiveBack));
    assert!(site.books.join("n2").is_err());
}

#[test]
fn workers_that_ended_because_another_could_not_be_started_come_again() {
    let mut site = Site::new();
    site.books.join("n1").unwrap();
    site.books.join("n2").unwrap();
    for (job, node) in [(1, "n1"), (2, "n2"), (3, "n3")] {
        site.launch(job, &[node]);
    }
    site.books.leave(1, "reset", site.now);
    site.now.instant += COMES_WITHIN / 2;
    let names = site.names(&NAMES);
    let again = changed("n2", NodeState::Up, "its worker is started again");
    let effects = site.books.start_again(&names, site.now);
    assert_eq!(effects, [clear(&[2]), again]);
    assert_eq!(site.books.cleared(&[id(2)], site.now), [end(2, Outcome::Lost)]);
    assert_eq!(site.report(0, 1, DONE), [end(1, DONE)], "its last words are heard");
    assert_eq!(site.books.leave(0, "closed", site.now), []);
    assert_eq!(site.books.deadline(), Some(site.now.instant + COMES_WITHIN), "of all three");
    let launch = Effect::Say(2, ToNode::Launch(step(3, &["n3"])));
    assert_eq!(site.books.join("n3"), Ok((2, vec![Effect::Say(2, ToNode::Welcome), launch])));
    assert!(site.books.join("n1").is_ok() && site.books.join("n2").is_ok());
    assert_eq!(site.launch(4, &["n1"]).len(), 1);
}

/// Something that happens in a random story.
#[derive(Clone, Debug)]
enum Happening {
    Launch(u32, Vec<usize>),
    Join(usize),
    Leave(usize),
    WorkerEnded(usize),
    NodeFailed(usize),
    Report(usize, u32, bool),
    Signal(u32),
    Stands(bool),
    Heard(usize, u32),
    GivenBack(bool),
    Cleared(u32),
    Pass,
    WindUp(bool),
    Release(usize),
    Again(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let node = || 0usize..3;
    let nodes = prop::collection::btree_set(node(), 1..4);
    let job = || 1u32..6;
    prop_oneof![
        4 => (job(), nodes).prop_map(|(job, nodes)| Launch(job, nodes.into_iter().collect())),
        3 => node().prop_map(Join),
        1 => node().prop_map(Leave),
        1 => node().prop_map(WorkerEnded),
        1 => node().prop_map(NodeFailed),
        6 => (node(), job(), any::<bool>()).prop_map(|(node, job, good)| Report(node, job, good)),
        2 => job().prop_map(Signal),
        3 => any::<bool>().prop_map(Stands),
        3 => (node(), job()).prop_map(|(node, job)| Heard(node, job)),
        1 => any::<bool>().prop_map(GivenBack),
        3 => job().prop_map(Cleared),
        1 => Just(Pass),
        1 => any::<bool>().prop_map(WindUp),
        1 => node().prop_map(Release),
        1 => node().prop_map(Again),
    ]
}

proptest! {
    /// Whatever happens: nothing is reported of a step that does not run, and once all nodes are gone, each
    /// has ended.
    #[test]
    fn each_step_ends_once(happenings in prop::collection::vec(happening(), 0..60)) {
        let mut site = Site::new();
        let mut open = BTreeSet::new();
        let mut clearing = BTreeSet::new();
        let last = (0..3).map(Happening::NodeFailed);
        let cleared = (1..6).map(Happening::Cleared);
        for happening in happenings.into_iter().chain(last).chain(cleared) {
            site.now.instant += Duration::from_millis(1);
            let now = site.now;
            let effects = match happening {
                Happening::Launch(job, nodes) => {
                    open.insert(id(job));
                    let nodes: Vec<&str> = nodes.into_iter().map(|node| NAMES[node]).collect();
                    site.launch(job, &nodes)
                }
                Happening::Join(node) => {
                    site.books.join(NAMES[node]).map(|(_, effects)| effects).unwrap_or_default()
                }
                Happening::Leave(node) => site.books.leave(node, "gone", now),
                Happening::WorkerEnded(node) => {
                    site.books.workers_ended(&[NAMES[node].to_owned()], "ended", now)
                }
                Happening::NodeFailed(node) => {
                    site.books.nodes_failed(&[NAMES[node].to_owned()], "failed", now)
                }
                Happening::Report(node, job, good) => {
                    site.report(node, job, if good { DONE } else { FAILED })
                }
                Happening::Signal(job) => site.books.signal(id(job), StepSignal::Cancel, now),
                Happening::Stands(lives) => {
                    let standing = if lives { Standing::Lives } else { Standing::Ended };
                    site.books.stands(standing, now.instant)
                }
                Happening::Heard(node, job) => site.books.heard(node, id(job)),
                Happening::GivenBack(is_done) => site.books.given_back(is_done, now),
                Happening::Cleared(job) if clearing.remove(&id(job)) => {
                    site.books.cleared(&[id(job)], now)
                }
                Happening::Cleared(_) => Vec::new(),
                Happening::Pass => site.pass(LEASE),
                Happening::WindUp(is_taken) => site.books.wind_up(is_taken, now),
                Happening::Again(node) => site.books.start_again(&[NAMES[node].to_owned()], now),
                Happening::Release(node) => site.books.release(NAMES[node], Parting::GoesBack, now),
            };
            for effect in effects {
                match effect {
                    Effect::Emit(StepEvent::Ended { step, .. }) => prop_assert!(open.remove(&step)),
                    Effect::Clear(jobs) => clearing.extend(jobs.into_iter().map(|one| one.step)),
                    _ => {}
                }
            }
            prop_assert_eq!(site.books.steps().collect::<BTreeSet<_>>(), open.clone());
        }
        prop_assert_eq!(open, BTreeSet::new());
    }
}
