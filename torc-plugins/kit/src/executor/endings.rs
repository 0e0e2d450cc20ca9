//! How steps end that nobody ends.
//!
//! Owns: the checks of outcomes that come from the job itself. Does not know: signals of torc's.

use torc_core::traits::{LaunchStage, Outcome};

use super::ExecutorSite;
use super::bench::{Bench, with};
use crate::finding::{Finding, Verdict, broken, ensure, same};
use crate::steps::step;

pub(super) async fn success(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "success", async |bench| {
        bench.ends_as(1, "exit 0", &Outcome::Exited { code: 0 }).await?;
        // A child's failure is not the step's.
        bench.ends_as(2, "false; true", &Outcome::Exited { code: 0 }).await
    })
    .await
}

pub(super) async fn exit_codes(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "exit_codes", async |bench| {
        for (job, code) in (1..).zip([1, 3, 126, 127, 137, 143, 255]) {
            bench.ends_as(job, &format!("exit {code}"), &Outcome::Exited { code }).await?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn ended_by_a_signal(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "ended_by_a_signal", async |bench| {
        for (job, signal) in (1..).zip([9, 15, 10]) {
            let script = format!("kill -{signal} $$; sleep 60");
            bench.ends_as(job, &script, &Outcome::Signaled { signal }).await?;
        }
        Ok(())
    })
    .await
}

/// Broken unless this is a failed launch with words, at one of these stages.
fn launch_failed(outcome: &Outcome, stages: &[LaunchStage]) -> Verdict {
    let expected = format!("a failed launch at {stages:?}");
    match outcome {
        Outcome::LaunchFailed { stage, reason } if stages.contains(stage) => {
            ensure(!reason.trim().is_empty(), "a failed launch to say why", || {
                format!("{reason:?}")
            })
        }
        other => Err(broken(expected, format!("{other:?}"))),
    }
}

pub(super) async fn missing_program(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "missing_program", async |bench| {
        for (job, program) in (1..).zip(["/no/such/torc-kit-program", "torc-kit-no-such-program"]) {
            let mut step = step(job, &[program, "a"]);
            let like = bench.script(job, "")?;
            (step.nodes, step.working_dir, step.stdio) = (like.nodes, like.working_dir, like.stdio);
            match bench.run(step).await? {
                // A launcher's shell that could not execute it: no process of the job's ran, but one for it.
                Outcome::Exited { code: 127 } => {}
                outcome => launch_failed(&outcome, &[LaunchStage::Prepare, LaunchStage::Execute])?,
            }
        }
        Ok(())
    })
    .await
}

/// Nothing has been written by a step that must not have run.
fn has_not_run(bench: &Bench, file: &str) -> Verdict {
    same("what a step wrote that could not be launched", "", bench.read(file).as_str())
}

pub(super) async fn missing_working_folder(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "missing_working_folder", async |bench| {
        let mut step = bench.script(1, &format!("echo ran > '{}'", bench.text_path("ran")?))?;
        step.working_dir = bench.text_path("no such folder")?.into();
        let outcome = bench.run(step).await?;
        launch_failed(&outcome, &[LaunchStage::Prepare, LaunchStage::WorkingDir])?;
        has_not_run(bench, "ran")
    })
    .await
}

pub(super) async fn output_that_cannot_be_opened(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "output_that_cannot_be_opened", async |bench| {
        for job in [1, 2] {
            let mut step = bench.script(job, "echo ran > ran")?;
            let path: Box<str> = bench.text_path("no such folder/output")?.into();
            if job == 1 {
                step.stdio.stdout = Some(path);
            } else {
                step.stdio.stderr = Some(path);
            }
            let outcome = bench.run(step).await?;
            launch_failed(&outcome, &[LaunchStage::Prepare, LaunchStage::Output])?;
            has_not_run(bench, "ran")?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn expected_files(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "expected_files", async |bench| {
        let absolute = bench.text_path("absolute file")?;
        let run = async |job, script: &str| -> Result<Outcome, Finding> {
            let mut step = bench.script(job, script)?;
            step.expected_files = vec!["relative file".into(), absolute.as_str().into()];
            bench.run(step).await
        };
        let missing = |files: &[&str]| Outcome::FilesMissing {
            files: files.iter().map(|&file| file.into()).collect(),
        };
        let what = "the end of a step that leaves out files that it declared";
        same(what, &missing(&["relative file", &absolute]), &run(1, "exit 0").await?)?;
        let failed = run(2, "exit 2").await?;
        same("the end of a step that failed", &Outcome::Exited { code: 2 }, &failed)?;
        same(what, &missing(&[&absolute]), &run(3, "echo > 'relative file'").await?)?;
        let all_there = run(4, "echo > 'absolute file'").await?;
        same("the end of a step with all its files", &Outcome::Exited { code: 0 }, &all_there)
    })
    .await
}
