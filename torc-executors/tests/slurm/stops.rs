//! Bringing steps to their end.

use std::time::Duration;

use torc_core::traits::{Executor, Outcome, StepSignal};

use crate::site::{Site, Test, appears, run, step_id};

pub(crate) const TESTS: &[Test] = &[
    Test::new("a_step_that_is_asked_to_end_keeps_its_code", keeps_its_code),
    Test::new("a_step_that_does_not_end_is_killed_after_its_lead", killed_after_its_lead),
    Test::new("a_kill_comes_at_once", a_kill_comes_at_once),
    Test::new("a_step_can_be_stopped_before_it_has_started", before_it_has_started),
    Test::new("a_step_that_waits_for_resources_can_be_stopped", waits_for_resources),
    Test::new("a_step_past_its_runtime_is_ended", past_its_runtime),
    Test::new("winding_up_lets_jobs_end_by_themselves", winding_up_lets_jobs_end_by_themselves),
    Test::new("nothing_is_left_after_a_shutdown", nothing_is_left_after_a_shutdown),
];

/// Writes `ready`, and when it is asked to end, writes `asked` and exits with this code. The whole
/// process group hears the signal, so the shell does not wait in vain.
fn trap(code: i32) -> String {
    format!("trap 'echo asked > asked; exit {code}' TERM; echo > ready; sleep 1000 & wait")
}

fn keeps_its_code() {
    run(async {
        let mut site = Site::new().await;
        for (signal, code, expected) in [
            (StepSignal::Cancel, 0, Outcome::Exited { code: 0 }),
            (StepSignal::Cancel, 7, Outcome::Cancelled),
            (StepSignal::TimeUp, 0, Outcome::TimedOut { code: Some(0) }),
            (StepSignal::TimeUp, 7, Outcome::TimedOut { code: Some(7) }),
        ] {
            for file in ["ready", "asked"] {
                let _ = std::fs::remove_file(site.path(file));
            }
            site.launch(site.step(1, &trap(code))).await;
            appears(&site.path("ready")).await;
            site.executor.signal(step_id(1), signal).await.expect("is taken");
            assert_eq!(site.end().await.1, expected, "{signal:?} {code}");
            assert_eq!(site.read("asked"), "asked\n");
        }
        // One that lets the signal end it.
        site.launch(site.step(2, "echo > ready2; exec sleep 1000")).await;
        appears(&site.path("ready2")).await;
        site.executor.signal(step_id(2), StepSignal::TimeUp).await.expect("is taken");
        assert_eq!(site.end().await.1, Outcome::TimedOut { code: None });
    });
}

fn killed_after_its_lead() {
    run(async {
        let mut site = Site::new().await;
        let mut step = site.step(1, "trap '' TERM; echo > ready; while :; do sleep 1; done");
        step.limits.termination_lead = Duration::from_secs(2);
        site.launch(step).await;
        appears(&site.path("ready")).await;
        site.executor.signal(step_id(1), StepSignal::Cancel).await.expect("is taken");
        assert_eq!(site.end().await.1, Outcome::Cancelled);
        site.all_gone().await;
    });
}

fn a_kill_comes_at_once() {
    run(async {
        let mut site = Site::new().await;
        site.launch(site.step(1, &trap(0))).await;
        appears(&site.path("ready")).await;
        site.executor.signal(step_id(1), StepSignal::Kill).await.expect("is taken");
        assert_eq!(site.end().await.1, Outcome::Cancelled);
        assert!(!site.path("asked").exists());
    });
}

fn before_it_has_started() {
    run(async {
        let mut site = Site::with(|config| config.max_parallel_steps = 1).await;
        site.launch(site.step(1, "sleep 1000")).await;
        site.launch(site.step(2, "sleep 1000")).await;
        site.executor.signal(step_id(2), StepSignal::TimeUp).await.expect("is taken");
        site.executor.signal(step_id(1), StepSignal::Cancel).await.expect("is taken");
        let mut ends = [site.end().await, site.end().await];
        ends.sort_by_key(|(id, _)| id.job);
        assert_eq!(ends[0], (step_id(1), Outcome::Cancelled));
        assert_eq!(ends[1], (step_id(2), Outcome::TimedOut { code: None }));
        site.all_gone().await;
    });
}

fn waits_for_resources() {
    run(async {
        let mut site = Site::new().await;
        let mut step = site.step(1, "echo > ready; exec sleep 1000");
        step.nodes = vec![site.share(0, 8)];
        site.launch(step).await;
        appears(&site.path("ready")).await;
        site.started(1).await;
        // The placer would not do this; Slurm holds resources a moment longer than torc's books.
        site.launch(site.step(2, "true")).await;
        site.executor.signal(step_id(2), StepSignal::Cancel).await.expect("is taken");
        assert_eq!(site.end().await, (step_id(2), Outcome::Cancelled));
        site.launch(site.step(3, "true")).await;
        site.executor.signal(step_id(1), StepSignal::Kill).await.expect("is taken");
        assert_eq!(site.end().await, (step_id(1), Outcome::Cancelled));
        assert_eq!(site.end().await, (step_id(3), Outcome::Exited { code: 0 }));
    });
}

fn past_its_runtime() {
    run(async {
        let mut site = Site::new().await;
        let mut step = site.step(1, &trap(5));
        step.limits.runtime = Some(Duration::from_secs(2));
        assert_eq!(site.outcome(step).await, Outcome::TimedOut { code: Some(5) });
    });
}

fn winding_up_lets_jobs_end_by_themselves() {
    run(async {
        let mut site = Site::new().await;
        site.launch(site.step(1, &trap(0))).await;
        site.launch(site.step(2, "echo > ready2; sleep 1000")).await;
        appears(&site.path("ready")).await;
        appears(&site.path("ready2")).await;
        site.executor.wind_up().await;
        let mut ends = [site.end().await, site.end().await];
        ends.sort_by_key(|(step, _)| *step);
        let exited = Outcome::Exited { code: 0 };
        assert_eq!(ends, [(step_id(1), exited), (step_id(2), Outcome::Cancelled)]);
        site.all_gone().await;
        site.executor.launch(site.step(3, "true")).await.expect_err("it is gone");
    });
}

fn nothing_is_left_after_a_shutdown() {
    run(async {
        let mut site = Site::with(|config| config.max_parallel_steps = 2).await;
        for job in 1..=3 {
            let mut step = site.step(job, &format!("echo > ready{job}; sleep 1000"));
            step.nodes = vec![site.share(job as usize % 2, 1)];
            site.launch(step).await;
        }
        appears(&site.path("ready1")).await;
        appears(&site.path("ready2")).await;
        site.executor.shutdown().await;
        for _ in 0..3 {
            assert_eq!(site.end().await.1, Outcome::Cancelled);
        }
        site.all_gone().await;
        site.executor.launch(site.step(4, "true")).await.expect_err("it is gone");
    });
}
