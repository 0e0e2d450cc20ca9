//! The governor asked and answered, told as stories.

use super::*;
use crate::traits::{AllocationEnd, SchedulerError};

mod kinds;
mod turns;

const W: WorkflowId = WorkflowId(1);

fn who(number: u32) -> Who {
    (W, AllocationId(number))
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1000)
}

fn handle(number: u32) -> AllocationHandle {
    AllocationHandle(number.to_string())
}

fn governor(max_pending: usize) -> Governor {
    Governor::new(Limits { max_pending, ..Limits::default() })
}

fn wanted(max_pending: usize, count: u32) -> Governor {
    let mut governor = governor(max_pending);
    for number in 1..=count {
        assert_eq!(governor.want(who(number), "cpu".into(), false), []);
    }
    governor
}

fn orders(governor: &mut Governor, now: Timestamp) -> Vec<Order> {
    governor.next(now).0
}

fn unavailable<T>() -> Result<T, SchedulerError> {
    Err(SchedulerError::Unavailable("no answer".to_owned()))
}

fn refused<T>() -> Result<T, SchedulerError> {
    Err(SchedulerError::Refused("invalid account".to_owned()))
}

fn pending() -> AllocationState {
    AllocationState::Pending { reason: "Resources".to_owned(), expected_start: None }
}

fn ended(cause: AllocationEnd) -> AllocationState {
    AllocationState::Ended { cause, reason: "so it was".to_owned() }
}

/// Submits one allocation.
fn submit(governor: &mut Governor, number: u32, now: Timestamp) {
    assert!(orders(governor, now).contains(&Order::Submit(who(number))));
    let news = governor.submitted(who(number), Ok(handle(number)), now);
    assert_eq!(news, [News::Submitted(who(number), handle(number))]);
}

/// Tells where an allocation stands, all else being as it was.
fn see(governor: &mut Governor, number: u32, state: AllocationState, now: Timestamp) -> Vec<News> {
    governor.observed(&[(who(number), handle(number))], Ok(vec![state]), now)
}

#[test]
fn so_many_wait_at_once_and_the_next_follows_when_one_runs() {
    let mut governor = wanted(2, 3);
    submit(&mut governor, 1, at(0));
    assert_eq!(orders(&mut governor, at(0)), [], "a pause lies between two requests");
    submit(&mut governor, 2, at(1));
    let (asked, news) = governor.next(at(2));
    assert_eq!(asked, []);
    assert!(matches!(&news[..], [News::HeldBack(held, _)] if *held == who(3)), "{news:?}");
    see(&mut governor, 1, AllocationState::Running { ends_at: None }, at(6));
    submit(&mut governor, 3, at(6));
}

#[test]
fn after_a_silence_it_is_looked_for_before_it_is_asked_for_again() {
    let mut governor = wanted(9, 1);
    assert_eq!(orders(&mut governor, at(0)), [Order::Submit(who(1))]);
    assert_eq!(orders(&mut governor, at(100)), [], "one request at a time");
    governor.submitted(who(1), unavailable(), at(100));
    assert_eq!(orders(&mut governor, at(104)), []);
    assert_eq!(governor.wake_at(), Some(at(105)));
    assert_eq!(orders(&mut governor, at(105)), [Order::Find(who(1))]);
    governor.found(who(1), unavailable(), at(106));
    assert_eq!(governor.wake_at(), Some(at(116)), "the wait doubles");
    assert_eq!(orders(&mut governor, at(116)), [Order::Find(who(1))]);
    governor.found(who(1), Ok(None), at(116));
    submit(&mut governor, 1, at(116));
}

#[test]
fn what_was_in_doubt_and_is_found_is_not_asked_for_again() {
    let mut governor = governor(9);
    governor.want(who(1), "cpu".into(), true);
    assert_eq!(orders(&mut governor, at(0)), [Order::Find(who(1))]);
    let news = governor.found(who(1), Ok(Some(handle(7))), at(0));
    assert_eq!(news, [News::Submitted(who(1), handle(7))]);
    assert_eq!(orders(&mut governor, at(1)), []);
}

#[test]
fn whoever_asks_again_for_what_there_is_gets_it() {
    let mut governor = wanted(9, 1);
    submit(&mut governor, 1, at(0));
    let news = governor.want(who(1), "cpu".into(), true);
    assert_eq!(news, [News::Submitted(who(1), handle(1))]);
    assert_eq!(orders(&mut governor, at(1)), []);
}

#[test]
fn what_its_worker_told_of_first_is_followed_whatever_the_scheduler_answers() {
    type Ask = fn(&mut Governor) -> Vec<News>;
    let asks: [(bool, Ask); 6] = [
        (false, |_| Vec::new()),
        (true, |governor| governor.found(who(1), Ok(None), at(2))),
        (true, |governor| governor.found(who(1), unavailable(), at(2))),
        (false, |governor| governor.submitted(who(1), refused(), at(2))),
        (false, |governor| governor.submitted(who(1), unavailable(), at(2))),
        (true, |governor| {
            governor.cancel(who(1));
            let news = governor.found(who(1), Ok(None), at(2));
            assert_eq!(orders(governor, at(2))[0], Order::Cancel(who(1), handle(1)));
            news
        }),
    ];
    for (in_doubt, answer) in asks {
        let mut governor = governor(9);
        governor.want(who(1), "cpu".into(), in_doubt);
        governor.next(at(0));
        governor.track(who(1), "cpu".into(), handle(1), false);
        assert_eq!(answer(&mut governor), []);
        let asked = orders(&mut governor, at(1000));
        assert!(!asked.iter().any(|order| matches!(order, Order::Submit(_) | Order::Find(_))));
        let news = see(&mut governor, 1, ended(AllocationEnd::Completed), at(1000));
        assert!(matches!(&news[..], [News::Observed(..)]), "{news:?}");
    }
}

#[test]
fn a_scheduler_whose_allocations_come_to_nothing_is_given_up() {
    let mut governor = wanted(9, 4);
    for number in [1, 2] {
        assert_eq!(orders(&mut governor, at(number.into())), [Order::Submit(who(number))]);
        let news = governor.submitted(who(number), refused(), at(number.into()));
        assert_eq!(news.len(), 1, "{news:?}");
    }
    submit(&mut governor, 3, at(3));
    let news = see(&mut governor, 3, ended(AllocationEnd::Failed), at(10));
    assert!(matches!(&news[..], [News::Observed(..), News::Refused(last, _)] if *last == who(4)));
    let news = governor.want(who(5), "cpu".into(), false);
    assert!(matches!(&news[..], [News::Refused(..)]), "{news:?}");
    assert_eq!(governor.want(who(6), "gpu".into(), false), [], "another one is asked");
    governor.forgive(W);
    assert_eq!(governor.want(who(7), "cpu".into(), false), []);
}

#[test]
fn an_allocation_that_worked_or_was_cancelled_is_no_failure() {
    let mut governor = wanted(9, 8);
    for number in 1..=8 {
        let now = at(u64::from(number) * 100);
        submit(&mut governor, number, now);
        if number % 2 == 0 {
            governor.worked(who(number));
        } else {
            governor.cancel(who(number));
        }
        let news = see(&mut governor, number, ended(AllocationEnd::Failed), now);
        assert_eq!(news.len(), 1, "{news:?}");
    }
}

#[test]
fn what_had_worked_before_a_restart_is_no_failure() {
    let mut governor = governor(9);
    for number in 1..=3 {
        governor.track(who(number), "cpu".into(), handle(number), true);
        let news = see(&mut governor, number, ended(AllocationEnd::Failed), at(1));
        assert_eq!(news.len(), 1, "{news:?}");
    }
    assert_eq!(governor.want(who(4), "cpu".into(), false), []);
}

#[test]
fn all_are_asked_about_in_one_batch_and_ever_more_seldom() {
    let mut governor = wanted(9, 2);
    submit(&mut governor, 1, at(0));
    submit(&mut governor, 2, at(1));
    let both = vec![(who(1), handle(1)), (who(2), handle(2))];
    let mut now = at(1);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let next = governor.wake_at().expect("it is asked again");
        pauses.push(next.since(now).as_secs());
        now = next;
        assert_eq!(orders(&mut governor, now), [Order::Observe(both.clone())]);
        assert_eq!(governor.wake_at(), None, "one question at a time");
        governor.observed(&both, Ok(vec![pending(), pending()]), now);
    }
    assert_eq!(pauses, [4, 5, 10, 20, 40, 60]);
    governor.nudge(now);
    assert_eq!(orders(&mut governor, now), [Order::Observe(both)]);
}

#[test]
fn a_question_without_an_answer_says_nothing() {
    let mut governor = wanted(9, 1);
    submit(&mut governor, 1, at(0));
    let asked = [(who(1), handle(1))];
    assert_eq!(orders(&mut governor, at(5)), [Order::Observe(asked.to_vec())]);
    assert_eq!(governor.observed(&asked, unavailable(), at(5)), []);
    assert_eq!(see(&mut governor, 1, AllocationState::Unknown, at(20)), []);
    assert_eq!(see(&mut governor, 1, AllocationState::Unknown, at(139)), []);
    let news = see(&mut governor, 1, AllocationState::Unknown, at(140));
    assert!(matches!(
        &news[..],
        [News::Observed(_, _, AllocationState::Ended { cause: AllocationEnd::Unknown, .. })]
    ));
}

#[test]
fn what_is_forgotten_has_not_ended_while_something_may_run_there() {
    let mut governor = wanted(9, 1);
    let sees_nothing = |governor: &mut Governor, second: u64| {
        see(governor, 1, AllocationState::Unknown, at(second)).is_empty()
    };
    submit(&mut governor, 1, at(0));
    governor.worked(who(1));
    for second in [10, 1000, 5000] {
        assert!(sees_nothing(&mut governor, second), "its worker is there");
    }
    governor.be_patient(who(1), Duration::from_secs(600));
    governor.left(who(1), at(5001));
    assert!(sees_nothing(&mut governor, 5001));
    assert!(sees_nothing(&mut governor, 5600));
    assert!(!sees_nothing(&mut governor, 5601));
    // Another server knows no worker of it.
    governor.track(who(1), "cpu".into(), handle(1), true);
    assert!(sees_nothing(&mut governor, 6000));
    governor.be_patient(who(1), Duration::ZERO);
    assert!(sees_nothing(&mut governor, 6119));
    assert!(!sees_nothing(&mut governor, 6120), "nothing runs there");
}

#[test]
fn what_is_said_of_another_handle_says_nothing() {
    let mut governor = wanted(9, 1);
    submit(&mut governor, 1, at(0));
    governor.track(who(1), "cpu".into(), handle(2), true);
    let end = ended(AllocationEnd::Failed);
    assert_eq!(see(&mut governor, 1, end.clone(), at(1)), []);
    let news = governor.observed(&[(who(1), handle(2))], Ok(vec![end.clone()]), at(2));
    assert_eq!(news, [News::Observed(who(1), handle(2), end)]);
}

#[test]
fn words_that_nobody_knows_say_nothing_however_long() {
    let mut governor = wanted(9, 1);
    submit(&mut governor, 1, at(0));
    let unclear = AllocationState::Unclear { words: "HIBERNATED".to_owned() };
    assert_eq!(see(&mut governor, 1, AllocationState::Unknown, at(5)), []);
    for second in [20, 200, 2000] {
        let news = see(&mut governor, 1, unclear.clone(), at(second));
        assert_eq!(news, [News::Observed(who(1), handle(1), unclear.clone())]);
    }
    assert_eq!(see(&mut governor, 1, AllocationState::Unknown, at(2005)), []);
}

#[test]
fn what_has_lost_its_first_node_is_cancelled_and_its_end_is_called_so() {
    let mut governor = wanted(9, 1);
    submit(&mut governor, 1, at(0));
    governor.worked(who(1));
    let news = see(&mut governor, 1, AllocationState::Headless, at(5));
    assert_eq!(news, [News::Observed(who(1), handle(1), AllocationState::Headless)]);
    assert!(orders(&mut governor, at(5)).contains(&Order::Cancel(who(1), handle(1))));
    governor.cancelled(who(1), Ok(()), at(6));
    see(&mut governor, 1, AllocationState::Headless, at(7));
    assert!(!orders(&mut governor, at(7)).contains(&Order::Cancel(who(1), handle(1))));
    let news = see(&mut governor, 1, ended(AllocationEnd::Cancelled), at(9));
    let [News::Observed(_, _, AllocationState::Ended { cause, reason })] = &news[..] else {
        panic!("{news:?}");
    };
    assert_eq!(*cause, AllocationEnd::NodeFailed);
    assert!(reason.starts_with("its first node failed"), "{reason}");
}

#[test]
fn what_is_cancelled_ends_when_the_scheduler_says_so() {
    let mut governor = wanted(9, 2);
    submit(&mut governor, 1, at(0));
    assert!(governor.cancel(who(2)), "nobody was asked for it");
    assert!(!governor.cancel(who(1)));
    assert_eq!(orders(&mut governor, at(0)), [Order::Cancel(who(1), handle(1))]);
    governor.cancelled(who(1), unavailable(), at(0));
    let says_so = |governor: &mut Governor, now: Timestamp| {
        orders(governor, now).contains(&Order::Cancel(who(1), handle(1)))
    };
    assert!(!says_so(&mut governor, at(4)), "one that did not hear is not shouted at");
    assert_eq!(governor.wake_at(), Some(at(5)));
    assert!(says_so(&mut governor, at(5)));
    assert_eq!(governor.wake_at(), None, "both questions are under way");
    governor.cancelled(who(1), unavailable(), at(6));
    assert!(!governor.cancel(who(1)), "whoever says so again changes nothing");
    assert_eq!(governor.wake_at(), Some(at(16)), "the wait doubles");
    assert!(!says_so(&mut governor, at(15)));
    assert!(says_so(&mut governor, at(16)));
    governor.cancelled(who(1), Ok(()), at(17));
    assert!(!says_so(&mut governor, at(1000)));
    let news = see(&mut governor, 1, ended(AllocationEnd::Cancelled), at(1000));
    assert!(matches!(&news[..], [News::Observed(..)]), "{news:?}");
    assert_eq!(governor.wake_at(), None);
}
