//! Schedulers of several types, one of which does not do as it should.

use super::*;

const SLURM: &str = "slurm";
const OTHER: &str = "gridengine";

fn wanted(governors: &mut Governors, number: u32, kind: &str) {
    let governor = governors.enter(who(number), kind.into());
    assert_eq!(governor.want(who(number), "cpu".into(), false), []);
}

/// The types that are asked for allocations, in the order of the questions.
fn asked(governors: &mut Governors, now: Timestamp) -> Vec<(Arc<str>, Order)> {
    let orders = governors.next(now).0.into_iter();
    orders.filter(|(_, order)| matches!(order, Order::Submit(_) | Order::Find(_))).collect()
}

#[test]
fn a_type_that_is_silent_holds_up_no_other() {
    let mut governors = Governors::new(Limits::default());
    wanted(&mut governors, 1, OTHER);
    wanted(&mut governors, 2, SLURM);
    wanted(&mut governors, 3, SLURM);
    let both = [(OTHER.into(), Order::Submit(who(1))), (SLURM.into(), Order::Submit(who(2)))];
    assert_eq!(asked(&mut governors, at(0)), both);
    let silent = governors.of(who(1)).expect("it is wanted");
    silent.submitted(who(1), unavailable(), at(0));
    let slurm = governors.of(who(2)).expect("it is wanted");
    slurm.submitted(who(2), Ok(handle(2)), at(0));
    assert_eq!(asked(&mut governors, at(1)), [(SLURM.into(), Order::Submit(who(3)))]);
    assert_eq!(asked(&mut governors, at(5)), [(OTHER.into(), Order::Find(who(1)))]);
}

#[test]
fn a_type_whose_questions_fail_is_asked_ever_more_seldom_and_the_others_as_ever() {
    let mut governors = Governors::new(Limits::default());
    for (number, kind) in [(1, OTHER), (2, SLURM)] {
        governors.enter(who(number), kind.into()).track(
            who(number),
            "cpu".into(),
            handle(number),
            true,
        );
    }
    let (mut of_slurm, mut of_other) = (0, 0);
    let mut now = at(0);
    while now < at(300) {
        for (kind, order) in governors.next(now).0 {
            let Order::Observe(whos) = order else { panic!("{order:?}") };
            let governor = governors.of_kind(&kind).expect("it was asked");
            if &*kind == OTHER {
                of_other += 1;
                governor.observed(&whos, Err(SchedulerError::Unavailable("no".to_owned())), now);
            } else {
                // There is always something new.
                of_slurm += 1;
                let states = [pending(), AllocationState::Configuring];
                governor.observed(&whos, Ok(vec![states[of_slurm % 2].clone()]), now);
            }
        }
        now = governors.wake_at().expect("they are followed");
    }
    assert_eq!(of_slurm, 60, "each 5 s");
    assert!(of_other < 10, "{of_other}");
}

#[test]
fn each_type_has_its_own_queue() {
    let mut governors = Governors::new(Limits { max_pending: 1, ..Limits::default() });
    for (number, kind) in [(1, OTHER), (2, OTHER), (3, SLURM)] {
        wanted(&mut governors, number, kind);
    }
    let first = [(OTHER.into(), Order::Submit(who(1))), (SLURM.into(), Order::Submit(who(3)))];
    assert_eq!(asked(&mut governors, at(0)), first);
    let other = governors.of(who(1)).expect("it is wanted");
    other.submitted(who(1), Ok(handle(1)), at(0));
    assert_eq!(asked(&mut governors, at(1)), [], "its queue is full");
    governors.forget(who(1));
    assert_eq!((governors.kind(who(1)), governors.kind(who(2))), (None, Some(&OTHER.into())));
    assert!(governors.of(who(1)).is_none());
}
