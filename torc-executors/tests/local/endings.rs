//! Steps that are asked to end.

use std::time::Duration;

use torc_core::traits::{Executor, Outcome, StepSignal};

use crate::site::{Site, Test, run, step_id};

pub(crate) const TESTS: &[Test] = &[
    ("a_cancelled_step_is_cancelled_unless_it_succeeds", cancelled),
    ("a_step_whose_time_is_up_keeps_its_code", time_up),
    ("a_step_that_ignores_the_signal_is_killed", ignored),
    ("a_killed_step_is_cancelled", killed),
    ("the_first_reason_stays", the_first_reason_stays),
    ("a_step_ends_at_its_own_time_limit", own_time_limit),
    ("another_signal_may_be_configured", another_signal),
    ("a_stopped_step_ends", stopped),
    ("the_signal_reaches_other_sessions", other_sessions),
    ("an_unknown_step_is_left_alone", unknown),
    ("what_runs_comes_to_its_end", wind_up),
    ("an_executor_without_steps_winds_up_at_once", wind_up_idle),
];

/// Runs a script that writes a line into the pipe `ready` once it can be signalled; signals it then.
async fn check(script: &str, signals: &[StepSignal], lead: Duration, expected: Outcome) {
    let mut site = Site::new();
    let ready = site.pipe("ready");
    let mut step = site.step(1, script);
    step.limits.termination_lead = lead;
    site.launch(step).await;
    let reader = ready.lines(1).await;
    for &signal in signals {
        site.executor.signal(step_id(1), signal).await.expect("takes a signal");
    }
    assert_eq!(site.end().await.1, expected, "{script} {signals:?}");
    reader.assert_all_gone();
}

/// Waits in a way that a trap interrupts, holding the pipe.
const WAIT: &str = "exec 9> ready; echo ready >&9; sleep 1000 & wait; exit 99";
const LONG: Duration = Duration::from_secs(600);

fn cancelled() {
    run(async {
        let cancel = [StepSignal::Cancel];
        check(WAIT, &cancel, LONG, Outcome::Cancelled).await;
        let script = format!("trap 'exit 0' TERM; {WAIT}");
        check(&script, &cancel, LONG, Outcome::Exited { code: 0 }).await;
        let script = format!("trap 'exit 5' TERM; {WAIT}");
        check(&script, &cancel, LONG, Outcome::Cancelled).await;
    });
}

fn time_up() {
    run(async {
        let time_up = [StepSignal::TimeUp];
        check(WAIT, &time_up, LONG, Outcome::TimedOut { code: None }).await;
        for code in [0, 7] {
            let script = format!("trap 'exit {code}' TERM; {WAIT}");
            check(&script, &time_up, LONG, Outcome::TimedOut { code: Some(code) }).await;
        }
    });
}

fn ignored() {
    run(async {
        let script = "trap '' TERM; exec 9> ready; echo ready >&9; sleep 1000; exit 1";
        let lead = Duration::from_millis(50);
        check(script, &[StepSignal::Cancel], lead, Outcome::Cancelled).await;
        check(script, &[StepSignal::TimeUp], lead, Outcome::TimedOut { code: None }).await;
        check(script, &[StepSignal::Cancel], Duration::ZERO, Outcome::Cancelled).await;
    });
}

fn killed() {
    run(async {
        let script = format!("trap 'exit 0' TERM; {WAIT}");
        check(&script, &[StepSignal::Kill], LONG, Outcome::Cancelled).await;
    });
}

fn the_first_reason_stays() {
    run(async {
        let script = format!("trap '' TERM; {WAIT}");
        let signals = [StepSignal::TimeUp, StepSignal::Kill];
        check(&script, &signals, LONG, Outcome::TimedOut { code: None }).await;
        let signals = [StepSignal::Cancel, StepSignal::TimeUp, StepSignal::Kill];
        check(&script, &signals, LONG, Outcome::Cancelled).await;
    });
}

fn own_time_limit() {
    run(async {
        let mut site = Site::new();
        for (script, code) in
            [("exec sleep 1000", None), ("trap 'exit 6' TERM; sleep 1000 & wait", Some(6))]
        {
            let mut step = site.step(1, script);
            step.limits.runtime = Some(Duration::from_millis(300));
            assert_eq!(site.outcome(step).await, Outcome::TimedOut { code }, "{script}");
        }
    });
}

fn another_signal() {
    run(async {
        let mut site = Site::new();
        let ready = site.pipe("ready");
        let mut step = site.step(1, &format!("trap 'exit 8' USR1; trap '' TERM; {WAIT}"));
        step.limits.termination_signal = 10;
        site.launch(step).await;
        ready.lines(1).await;
        site.executor.signal(step_id(1), StepSignal::TimeUp).await.expect("takes a signal");
        assert_eq!(site.end().await.1, Outcome::TimedOut { code: Some(8) });
    });
}

fn stopped() {
    run(async {
        // It is stopped before it can be asked to end: if it stopped itself, that might come later.
        let script =
            "trap 'exit 3' TERM; exec 9> ready; (kill -STOP $$; echo ready >&9) & wait; exit 1";
        check(script, &[StepSignal::TimeUp], LONG, Outcome::TimedOut { code: Some(3) }).await;
    });
}

fn other_sessions() {
    run(async {
        let mut site = Site::new();
        let ready = site.pipe("ready");
        // One is a child in a session of its own, one a daemon that left its parents, too.
        let other = "trap \"echo $0 >> told; exit 0\" TERM; echo ready >&9; sleep 1000 & wait";
        let script = format!(
            "exec 9> ready; setsid bash -c '{other}' child & (setsid bash -c '{other}' daemon &); \
             trap '' TERM; echo ready >&9; wait; while [ $(wc -l < told) != 2 ]; do sleep 0.01; done; exit 0"
        );
        site.launch(site.step(1, &script)).await;
        let reader = ready.lines(3).await;
        site.executor.signal(step_id(1), StepSignal::TimeUp).await.expect("takes a signal");
        assert_eq!(site.end().await.1, Outcome::TimedOut { code: Some(0) });
        reader.assert_all_gone();
        let mut told: Vec<String> = site.read("told").lines().map(str::to_owned).collect();
        told.sort();
        assert_eq!(told, ["child", "daemon"]);
    });
}

fn unknown() {
    run(async {
        let mut site = Site::new();
        site.executor.signal(step_id(5), StepSignal::Kill).await.expect("takes a signal");
        assert_eq!(site.outcome(site.step(5, "exit 0")).await, Outcome::Exited { code: 0 });
        site.executor.signal(step_id(5), StepSignal::Kill).await.expect("takes a signal");
    });
}

fn wind_up() {
    run(async {
        let mut site = Site::new();
        let ready = site.pipe("ready");
        let script =
            "trap 'read -r word < go; exit 0' TERM; exec 9> ready; echo >&9; sleep 1000 & wait";
        let go = site.pipe("go");
        for (job, script) in [(1, script), (2, WAIT)] {
            site.launch(site.step(job, script)).await;
        }
        let reader = ready.lines(2).await;
        let executor = site.executor.clone();
        let winding_up = tokio::spawn(async move { executor.wind_up().await });
        let (ended, outcome, _) = site.end().await;
        assert_eq!((ended, outcome), (step_id(2), Outcome::Cancelled));
        assert!(!winding_up.is_finished());
        site.launch(site.step(3, "exit 0")).await;
        assert_eq!(site.end().await.1, Outcome::Cancelled, "nothing is launched any more");
        go.write("on\n").await;
        let (ended, outcome, _) = site.end().await;
        assert_eq!((ended, outcome), (step_id(1), Outcome::Exited { code: 0 }));
        winding_up.await.expect("no panic");
        reader.assert_all_gone();
        site.executor.launch(site.step(4, "exit 0")).await.expect_err("it is gone");
    });
}

fn wind_up_idle() {
    run(async {
        let site = Site::new();
        site.executor.wind_up().await;
        site.executor.wind_up().await;
    });
}
