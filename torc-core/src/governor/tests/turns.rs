//! Who is asked for when others are not served, and how long whoever was sent away waits.

use proptest::prelude::*;

use super::*;

const LIMIT: &str = "AssocMaxSubmitJobLimit";

fn not_now<T>() -> Result<T, SchedulerError> {
    Err(SchedulerError::NotNow(LIMIT.to_owned()))
}

/// A wish of the workflow with this number for its scheduler of this name.
fn want(governor: &mut Governor, workflow: u32, number: u32, scheduler: &str) -> Who {
    let who = (WorkflowId(workflow), AllocationId(number));
    assert_eq!(governor.want(who, scheduler.into(), false), []);
    who
}

/// Asks at the next moment at which there is something to ask, and for nothing before it.
fn next_order(governor: &mut Governor, now: &mut Timestamp) -> Order {
    let at = governor.wake_at().expect("there is something to ask");
    if at > *now {
        assert_eq!(orders(governor, Timestamp(at.0 - 1)), [], "not before its time");
        *now = at;
    }
    let [order] = &orders(governor, *now)[..] else { panic!("one request at a time") };
    order.clone()
}

/// The pauses before each of so many requests for the only wish, all with this answer.
fn pauses(governor: &mut Governor, now: &mut Timestamp, answer: Answer, count: usize) -> Vec<u64> {
    let mut pauses = Vec::new();
    let mut before = *now;
    while pauses.len() < count {
        match next_order(governor, now) {
            Order::Find(who) => assert_eq!(governor.found(who, Ok(None), *now), []),
            Order::Submit(who) => {
                pauses.push(now.since(before).as_secs());
                before = *now;
                let news = governor.submitted(who, answer(), *now);
                assert!(matches!(news[..], [News::HeldBack(held, _)] if held == who), "{news:?}");
            }
            order => panic!("{order:?}"),
        }
    }
    pauses
}

type Answer = fn() -> Result<AllocationHandle, SchedulerError>;

#[test]
fn each_wait_doubles_up_to_the_longest_until_a_request_is_taken() {
    let check = |answer: Answer| {
        let mut governor = wanted(9, 1);
        let mut now = at(0);
        let found = pauses(&mut governor, &mut now, answer, 9);
        assert_eq!(found, [0, 5, 10, 20, 40, 80, 160, 300, 300]);
        let last = match next_order(&mut governor, &mut now) {
            Order::Find(who) => {
                governor.found(who, Ok(None), now);
                next_order(&mut governor, &mut now)
            }
            order => order,
        };
        assert_eq!(last, Order::Submit(who(1)));
        governor.submitted(who(1), Ok(handle(1)), now);
        governor.track(who(1), "cpu".into(), handle(1), true);
        see(&mut governor, 1, ended(AllocationEnd::Completed), now);
        governor.want(who(2), "cpu".into(), false);
        now = now + Duration::from_secs(1);
        assert_eq!(pauses(&mut governor, &mut now, answer, 3), [0, 5, 10], "it begins anew");
    };
    check(not_now);
    check(unavailable);
}

#[test]
fn who_is_not_served_is_asked_for_again_without_being_looked_for() {
    let mut governor = wanted(9, 1);
    assert_eq!(orders(&mut governor, at(0)), [Order::Submit(who(1))]);
    let news = governor.submitted(who(1), not_now(), at(0));
    let [News::HeldBack(held, why)] = &news[..] else { panic!("{news:?}") };
    assert_eq!((*held, why.contains(LIMIT)), (who(1), true), "{why}");
    assert_eq!(orders(&mut governor, at(4)), []);
    submit(&mut governor, 1, at(5));
}

#[test]
fn who_is_not_served_holds_up_nobody_else() {
    let mut governor = governor(9);
    let first = want(&mut governor, 1, 1, "cpu");
    let like_it = want(&mut governor, 1, 2, "cpu");
    let beside = want(&mut governor, 1, 3, "gpu");
    let elsewhere = want(&mut governor, 2, 1, "cpu");
    assert_eq!(orders(&mut governor, at(0)), [Order::Submit(first)]);
    governor.submitted(first, not_now(), at(0));
    for (second, number, who) in [(1, 1, beside), (2, 2, elsewhere)] {
        assert_eq!(orders(&mut governor, at(second)), [Order::Submit(who)]);
        governor.submitted(who, Ok(handle(number)), at(second));
    }
    assert_eq!(orders(&mut governor, at(4)), [], "its source stands back");
    assert!(orders(&mut governor, at(5)).contains(&Order::Submit(first)));
    governor.submitted(first, Ok(handle(3)), at(5));
    assert!(orders(&mut governor, at(6)).contains(&Order::Submit(like_it)));
}

#[test]
fn a_scheduler_that_is_silent_is_left_alone_by_all() {
    let mut governor = governor(9);
    let first = want(&mut governor, 1, 1, "cpu");
    let other = want(&mut governor, 2, 1, "cpu");
    assert_eq!(orders(&mut governor, at(0)), [Order::Submit(first)]);
    governor.submitted(first, unavailable(), at(0));
    assert_eq!(orders(&mut governor, at(4)), []);
    assert_eq!(governor.wake_at(), Some(at(5)));
    // It is the turn of the other one; the first is looked for after that.
    assert_eq!(orders(&mut governor, at(5)), [Order::Submit(other)]);
    governor.submitted(other, unavailable(), at(5));
    assert_eq!(governor.wake_at(), Some(at(15)));
    assert_eq!(orders(&mut governor, at(15)), [Order::Find(first)]);
    governor.found(first, unavailable(), at(15));
    assert_eq!(governor.wake_at(), Some(at(35)));
}

#[test]
fn one_that_cannot_be_looked_for_holds_up_nobody_else() {
    let mut governor = governor(9);
    assert_eq!(governor.want(who(1), "cpu".into(), true), []);
    let other = want(&mut governor, 2, 1, "cpu");
    assert_eq!(orders(&mut governor, at(0)), [Order::Find(who(1))]);
    governor.found(who(1), unavailable(), at(0));
    assert_eq!(orders(&mut governor, at(5)), [Order::Submit(other)]);
    governor.submitted(other, Ok(handle(9)), at(5));
    assert!(orders(&mut governor, at(6)).contains(&Order::Find(who(1))));
}

#[test]
fn what_may_have_been_asked_for_takes_room() {
    let mut governor = governor(1);
    assert_eq!(governor.want(who(1), "cpu".into(), true), []);
    let other = want(&mut governor, 2, 1, "cpu");
    assert_eq!(orders(&mut governor, at(0)), [Order::Find(who(1))]);
    governor.found(who(1), unavailable(), at(0));
    assert_eq!(governor.wake_at(), Some(at(5)), "to look for it needs no room");
    assert_eq!(orders(&mut governor, at(5)), [Order::Find(who(1))]);
    governor.found(who(1), Ok(None), at(5));
    assert_eq!(orders(&mut governor, at(5)), [Order::Submit(other)]);
}

#[test]
fn sources_take_turns() {
    let mut governor = governor(9);
    let wishes = [(1, 1, "cpu"), (1, 2, "cpu"), (1, 3, "gpu"), (1, 4, "gpu"), (2, 1, "cpu")];
    let [a, b, c, d, e] =
        wishes.map(|(workflow, number, name)| want(&mut governor, workflow, number, name));
    for (number, who) in (0u32..).zip([a, c, e, b, d]) {
        let second = number.into();
        let asked = orders(&mut governor, at(second));
        assert!(asked.contains(&Order::Submit(who)), "{who:?}: {asked:?}");
        governor.submitted(who, Ok(handle(number)), at(second));
    }
}

#[test]
fn what_is_not_served_and_not_wanted_any_more_is_gone() {
    let mut governor = wanted(9, 1);
    assert_eq!(orders(&mut governor, at(0)), [Order::Submit(who(1))]);
    assert!(!governor.cancel(who(1)), "it is being asked for");
    let news = governor.submitted(who(1), not_now(), at(0));
    assert!(matches!(news[..], [News::Refused(gone, _)] if gone == who(1)), "{news:?}");
    assert_eq!(governor.wake_at(), None);
}

#[test]
fn when_an_allocation_ends_whoever_has_stood_back_longest_may_try() {
    let mut governor = wanted(9, 1);
    submit(&mut governor, 1, at(0));
    governor.worked(who(1));
    let waiting =
        [(2, "cpu"), (3, "cpu")].map(|(workflow, name)| want(&mut governor, workflow, 1, name));
    for (second, who) in [(1, waiting[0]), (2, waiting[1])] {
        assert_eq!(orders(&mut governor, at(second)), [Order::Submit(who)]);
        governor.submitted(who, not_now(), at(second));
    }
    assert!(!orders(&mut governor, at(5)).iter().any(|order| matches!(order, Order::Submit(_))));
    see(&mut governor, 1, ended(AllocationEnd::Completed), at(5));
    assert_eq!(orders(&mut governor, at(5)), [Order::Submit(waiting[0])]);
    governor.submitted(waiting[0], Ok(handle(2)), at(5));
    assert!(
        !orders(&mut governor, at(6)).contains(&Order::Submit(waiting[1])),
        "one place was free"
    );
    assert_eq!(governor.wake_at(), Some(at(7)));
}

#[test]
fn a_workflow_that_begins_anew_does_not_stand_back() {
    let mut governor = wanted(9, 1);
    assert_eq!(orders(&mut governor, at(0)), [Order::Submit(who(1))]);
    governor.submitted(who(1), not_now(), at(0));
    governor.forgive(W);
    submit(&mut governor, 1, at(1));
}

/// What a scheduler does with the requests of one source.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Takes,
    /// Says that it takes none for the moment.
    SendsAway,
    /// Takes every second one, and is silent.
    Mumbles,
}

fn manner() -> impl Strategy<Value = Manner> {
    prop_oneof![Just(Manner::Takes), Just(Manner::SendsAway), Just(Manner::Mumbles)]
}

/// A scheduler with its queue: what it has, and when each source asked for something.
struct Site {
    manners: Vec<Manner>,
    requests: Vec<Vec<Timestamp>>,
    has: Vec<Who>,
}

impl Site {
    fn source(who: Who) -> usize {
        usize::try_from(who.0.0).unwrap()
    }

    fn answer(&mut self, governor: &mut Governor, order: Order, now: Timestamp) {
        match order {
            Order::Find(who) => {
                let found = self.has.contains(&who).then(|| handle(who.1.0));
                governor.found(who, Ok(found), now);
            }
            Order::Submit(who) => {
                let source = Self::source(who);
                assert!(!self.has.contains(&who), "asked for twice");
                let asked = &mut self.requests[source];
                asked.push(now);
                let is_lucky = asked.len().is_multiple_of(2);
                let manner = self.manners[source];
                if manner == Manner::Takes || manner == Manner::Mumbles && is_lucky {
                    self.has.push(who);
                }
                let answer = match manner {
                    Manner::Takes => Ok(handle(who.1.0)),
                    Manner::SendsAway => not_now(),
                    Manner::Mumbles => unavailable(),
                };
                governor.submitted(who, answer, now);
            }
            Order::Observe(asked) => {
                let states = asked.iter().map(|_| pending()).collect();
                governor.observed(&asked, Ok(states), now);
            }
            Order::Cancel(..) => unreachable!("nothing is cancelled"),
        }
    }
}

proptest! {
    /// Whatever others meet with: who can be served is, as long as there is room; the rest asks ever more
    /// seldom; there are never more in the queue than there may be; and nobody turns in a circle.
    #[test]
    fn who_can_be_served_is(
        sources in prop::collection::vec((manner(), 1u32..5), 1..6),
        max_pending in 1usize..25,
    ) {
        let mut governor = governor(max_pending);
        let (manners, counts): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
        for (source, count) in (0u32..).zip(&counts) {
            for number in 0..*count {
                want(&mut governor, source, number, "cpu");
            }
        }
        let mut site = Site { requests: vec![Vec::new(); manners.len()], manners, has: Vec::new() };
        let mut now = at(0);
        while let Some(wake_at) = governor.wake_at().filter(|at| *at < Timestamp(4 * 3_600_000)) {
            now = now.max(wake_at);
            let asked = orders(&mut governor, now);
            let is_idle = asked.is_empty();
            for order in asked {
                site.answer(&mut governor, order, now);
            }
            prop_assert!(site.has.len() <= max_pending);
            prop_assert!(!is_idle || governor.wake_at() > Some(now), "it asks nothing over and over");
        }
        let served = |source: usize| site.has.iter().filter(|who| Site::source(**who) == source).count();
        let all: usize = (0..counts.len())
            .filter(|source| site.manners[*source] != Manner::SendsAway)
            .map(|source| counts[source] as usize)
            .sum();
        prop_assert_eq!(site.has.len(), all.min(max_pending));
        for (source, requests) in site.requests.iter().enumerate() {
            if site.manners[source] == Manner::SendsAway {
                prop_assert_eq!(served(source), 0);
                prop_assert!(requests.len() <= 4 * 12 + 7, "{} requests", requests.len());
            }
        }
    }
}
