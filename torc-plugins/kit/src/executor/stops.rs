//! Bringing steps to their end.
//!
//! Owns: the checks of signals, time limits and grace. Does not know: ends that come from the job itself.

use std::time::Duration;

use torc_core::traits::{Outcome, StepSignal};

use super::ExecutorSite;
use super::bench::{Bench, alive, forever, silence, with};
use crate::finding::{Finding, Verdict, ensure, same};
use crate::steps::step_id;

/// Gives signs of life for ever, with a trap for TERM.
fn trapping(job: u32, action: &str) -> String {
    format!("trap '{action}' TERM; {}", forever(job))
}

/// Launches a script that gives signs of life, and waits for the first.
async fn start(bench: &Bench, job: u32, script: &str) -> Verdict {
    bench.launch(bench.script(job, script)?).await?;
    bench.lives(job).await
}

/// Starts a script, signals it, and sees how it ends.
async fn signalled(
    bench: &Bench,
    job: u32,
    script: &str,
    signal: StepSignal,
) -> Result<Outcome, Finding> {
    start(bench, job, script).await?;
    bench.signal(job, signal).await?;
    bench.end(job).await
}

async fn check(
    bench: &Bench,
    job: u32,
    script: &str,
    signal: StepSignal,
    expected: &Outcome,
) -> Verdict {
    let outcome = signalled(bench, job, script, signal).await?;
    same(&format!("the end of `{script}` after {signal:?}"), expected, &outcome)
}

pub(super) async fn cancel_running(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "cancel_running", async |bench| {
        let cancel = StepSignal::Cancel;
        check(bench, 1, &forever(1), cancel, &Outcome::Cancelled).await?;
        check(bench, 2, &trapping(2, "exit 5"), cancel, &Outcome::Cancelled).await?;
        check(bench, 3, &trapping(3, "exit 0"), cancel, &Outcome::Exited { code: 0 }).await
    })
    .await
}

pub(super) async fn cancel_at_once(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "cancel_at_once", async |bench| {
        for job in 1..=4 {
            bench.launch(bench.script(job, &forever(job))?).await?;
            bench.signal(job, StepSignal::Cancel).await?;
        }
        let what = "the end of a step that was cancelled at once";
        for job in 1..=4 {
            same(what, &Outcome::Cancelled, &bench.end(job).await?)?;
        }
        bench.are_still(&[1, 2, 3, 4], "that were cancelled").await
    })
    .await
}

pub(super) async fn cancel_twice(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "cancel_twice", async |bench| {
        let mut step = bench.script(1, &trapping(1, ""))?;
        step.limits.termination_lead = Duration::from_secs(1);
        bench.launch(step).await?;
        bench.lives(1).await?;
        for _ in 0..3 {
            bench.signal(1, StepSignal::Cancel).await?;
        }
        let what = "the end of a step that was cancelled three times";
        same(what, &Outcome::Cancelled, &bench.end(1).await?)?;
        let told = bench.log.of(step_id(1));
        bench.signal(1, StepSignal::Cancel).await?;
        bench.signal(1, StepSignal::Kill).await?;
        silence().await;
        same("what is told of an ended step that is cancelled", &told, &bench.log.of(step_id(1)))
    })
    .await
}

pub(super) async fn signal_to_the_unknown(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "signal_to_the_unknown", async |bench| {
        let script = format!("until [ -e go ]; do {}; done; exit 4", alive(1));
        start(bench, 1, &script).await?;
        for signal in [StepSignal::Cancel, StepSignal::TimeUp, StepSignal::Kill] {
            bench.signal(77, signal).await?;
        }
        silence().await;
        let told = bench.log.of(step_id(77));
        ensure(told.is_empty(), "nothing to be told of a step that never was", || {
            format!("{told:?}")
        })?;
        bench.write("go", "")?;
        let what = "the end of a step beside one that never was";
        same(what, &Outcome::Exited { code: 4 }, &bench.end(1).await?)
    })
    .await
}

pub(super) async fn grace_is_given(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "grace_is_given", async |bench| {
        let script = trapping(1, "sleep 2; echo saved > saved; exit 0");
        let what =
            "the end of a step that needs two seconds after it was asked to end, and has an hour";
        let outcome = signalled(bench, 1, &script, StepSignal::Cancel).await?;
        same(what, &Outcome::Exited { code: 0 }, &outcome)?;
        same("what it saved meanwhile", "saved\n", bench.read("saved").as_str())
    })
    .await
}

pub(super) async fn grace_ends(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "grace_ends", async |bench| {
        let ends = [
            (StepSignal::Cancel, Outcome::Cancelled),
            (StepSignal::TimeUp, Outcome::TimedOut { code: None }),
        ];
        for (job, (signal, _)) in (1..).zip(&ends) {
            let mut step = bench.script(job, &trapping(job, ""))?;
            step.limits.termination_lead = Duration::from_secs(1);
            bench.launch(step).await?;
            bench.lives(job).await?;
            bench.signal(job, *signal).await?;
        }
        for (job, (signal, expected)) in (1..).zip(&ends) {
            let what = format!("the end of a step that ignores TERM, after {signal:?}");
            same(&what, expected, &bench.end(job).await?)?;
        }
        bench.are_still(&[1, 2], "that were killed").await
    })
    .await
}

pub(super) async fn time_up(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "time_up", async |bench| {
        let up = StepSignal::TimeUp;
        check(bench, 1, &forever(1), up, &Outcome::TimedOut { code: None }).await?;
        check(bench, 2, &trapping(2, "exit 7"), up, &Outcome::TimedOut { code: Some(7) }).await?;
        check(bench, 3, &trapping(3, "exit 0"), up, &Outcome::TimedOut { code: Some(0) }).await
    })
    .await
}

pub(super) async fn kill(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "kill", async |bench| {
        let script = trapping(1, "echo asked > asked; exit 0");
        check(bench, 1, &script, StepSignal::Kill, &Outcome::Cancelled).await?;
        same("what a killed step could still write", "", bench.read("asked").as_str())?;
        bench.are_still(&[1], "that were killed").await
    })
    .await
}

pub(super) async fn own_time_limit(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "own_time_limit", async |bench| {
        let scripts = [(forever(1), None), (trapping(2, "exit 6"), Some(6))];
        for (job, (script, _)) in (1..).zip(&scripts) {
            let mut step = bench.script(job, script)?;
            step.limits.runtime = Some(Duration::from_secs(2));
            bench.launch(step).await?;
        }
        for (job, (script, code)) in (1..).zip(&scripts) {
            let what = format!("the end of `{script}` past its runtime");
            same(&what, &Outcome::TimedOut { code: *code }, &bench.end(job).await?)?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn termination_signal(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "termination_signal", async |bench| {
        let script = format!("trap 'exit 8' USR1; {}", trapping(1, "exit 9"));
        let mut step = bench.script(1, &script)?;
        step.limits.termination_signal = 10;
        bench.launch(step).await?;
        bench.lives(1).await?;
        bench.signal(1, StepSignal::TimeUp).await?;
        let what = "the end of a step that is to be asked with USR1";
        same(what, &Outcome::TimedOut { code: Some(8) }, &bench.end(1).await?)
    })
    .await
}
