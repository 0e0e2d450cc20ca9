//! The account that an executor gives: of its nodes, of all steps at once, and of what it leaves.
//!
//! Owns: these checks. Does not know: how single steps end.

use std::collections::BTreeSet;

use torc_core::ids::StepId;
use torc_core::traits::{Outcome, StepEvent, StepSignal, StepState};

use super::ExecutorSite;
use super::bench::{alive, forever, silence, subject, with};
use crate::finding::{Verdict, broken, ensure, same};
use crate::steps::step_id;

pub(super) async fn inventory(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "inventory", async |bench| {
        ensure(!bench.nodes.is_empty(), "at least one node", || "none".to_owned())?;
        let mut names = BTreeSet::new();
        for node in &bench.nodes {
            let is_new = !node.name.trim().is_empty() && names.insert(&node.name);
            ensure(is_new, "names of nodes that differ", || format!("{:?} again", node.name))?;
            let cores: BTreeSet<_> = node.cores.iter().collect();
            let are_whole = !cores.is_empty() && cores.len() == node.cores.len();
            let grain = node.threads_per_core as usize;
            let is_shared_out = grain > 0 && cores.len().is_multiple_of(grain);
            ensure(are_whole && is_shared_out, "CPUs in whole cores, each once", || {
                format!("{:?} in cores of {grain} on {}", node.cores, node.name)
            })?;
            let gpus: BTreeSet<_> = node.gpus.iter().collect();
            same("the number of different GPUs", &node.gpus.len(), &gpus.len())?;
            ensure(node.memory > 0, "memory on every node", || format!("none on {}", node.name))?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn many_at_once(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "many_at_once", async |bench| {
        let code = |job: u32| i32::try_from(job % 100).unwrap_or_default();
        let jobs = 1..=site.at_once.max(1);
        for job in jobs.clone() {
            let mut step = bench.script(job, &format!("exit {}", code(job)))?;
            (step.stdio.stdout, step.stdio.stderr) = (None, None);
            bench.launch(step).await?;
        }
        for job in jobs {
            let expected = Outcome::Exited { code: code(job) };
            same(&format!("the end of step {job} of many"), &expected, &bench.end(job).await?)?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn events_in_order(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "events_in_order", async |bench| {
        bench.launch(bench.script(1, "exit 0")?).await?;
        bench.launch(bench.script(2, "exit 3")?).await?;
        let mut step = bench.script(3, "exit 0")?;
        step.stdio.stdout = Some(bench.text_path("no such folder/out")?.into());
        bench.launch(step).await?;
        for job in [4, 5] {
            bench.launch(bench.script(job, &forever(job))?).await?;
            bench.lives(job).await?;
        }
        bench.signal(4, StepSignal::Cancel).await?;
        bench.signal(5, StepSignal::Kill).await?;
        for job in 1..=5 {
            bench.end(job).await?;
        }
        silence().await;
        let launched: Vec<StepId> = (1..=5).map(step_id).collect();
        let strange =
            |event: &StepEvent| subject(event).is_some_and(|step| !launched.contains(&step));
        if let Some(event) = bench.log.all().into_iter().find(strange) {
            return Err(broken("reports of steps that were launched", format!("{event:?}")));
        }
        launched.into_iter().try_for_each(|step| in_order(&bench.log.of(step)))
    })
    .await
}

fn in_order(events: &[StepEvent]) -> Verdict {
    let expected = "at most one start, then one end, and nothing after it";
    let is_right = match events {
        [StepEvent::Ended { .. }] => true,
        [StepEvent::Started { at: from, .. }, StepEvent::Ended { at, outcome, .. }] => {
            // No process of it ever ran, says a failed launch.
            from <= at && !matches!(outcome, Outcome::LaunchFailed { .. })
        }
        _ => false,
    };
    ensure(is_right, expected, || format!("{events:?}"))
}

pub(super) async fn reconcile(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "reconcile", async |bench| {
        bench.ends_as(2, "exit 4", &Outcome::Exited { code: 4 }).await?;
        let script = format!("until [ -e go ]; do {}; done", alive(1));
        bench.launch(bench.script(1, &script)?).await?;
        bench.lives(1).await?;
        let states = bench.reconcile(&[77, 1, 2]).await?;
        let [unknown, running, ended] = states.as_slice() else {
            return Err(broken("three states for three steps", format!("{states:?}")));
        };
        same("the state of a step that never was", &StepState::Unknown, unknown)?;
        same("the state of a step that runs", &StepState::Running, running)?;
        let is_over = match ended {
            // Its end was told, and may be forgotten.
            StepState::Unknown => true,
            StepState::Ended { outcome, .. } => *outcome == Outcome::Exited { code: 4 },
            StepState::Running => false,
        };
        ensure(is_over, "the state of a step that exited with 4", || format!("{ended:?}"))?;
        same("the answer to no question", &Vec::new(), &bench.reconcile(&[]).await?)?;
        bench.write("go", "")?;
        same(
            "the end of a step that was asked after",
            &Outcome::Exited { code: 0 },
            &bench.end(1).await?,
        )
    })
    .await
}

pub(super) async fn nothing_left_behind(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "nothing_left_behind", async |bench| {
        let kinds = [(1, ""), (2, "trap '' TERM HUP; ")];
        for (job, kind) in kinds {
            let wait = format!("until [ -e beat{job} ]; do sleep 0.05; done; exit 0");
            let script = format!("({kind}{}) & {wait}", forever(job));
            bench.ends_as(job, &script, &Outcome::Exited { code: 0 }).await?;
        }
        bench.are_still(&[1, 2], "that have ended").await
    })
    .await
}

pub(super) async fn close_with_work_in_flight(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "close_with_work_in_flight", async |bench| {
        let kinds = ["", "trap '' TERM HUP INT; ", "sleep 3000 & "];
        for (job, kind) in (1..).zip(kinds) {
            bench.launch(bench.script(job, &format!("{kind}{}", forever(job)))?).await?;
            bench.lives(job).await?;
        }
        bench.close().await?;
        bench.are_still(&[1, 2, 3], "of an executor that was closed").await?;
        for job in [1, 2, 3] {
            let outcome = bench.end(job).await?;
            // What ended it is the close; only a success would be a lie.
            let is_told = outcome != Outcome::Exited { code: 0 };
            ensure(is_told, "a step that was running at the close not to have succeeded", || {
                format!("{outcome:?}")
            })?;
        }
        Ok(())
    })
    .await
}
