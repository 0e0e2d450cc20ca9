//! `torc run`: a spec from file to exit code, on this machine or in the allocation that it is in.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::num::NonZeroU32;

use torc_core::ids::WorkflowId;
use torc_core::wire::RestartRequest;
use torc_core::workflow::{Action, ActionKind, Requirements, Workflow};
use torc_server::clock::now;
use torc_server::session::{News, RunOutcome, Running, Session, Start};
use torc_server::state_dir::StateDir;
use torc_server::store::Origin;

use crate::args::{Format, PluginArgs, ResourceArgs, ResumeArgs, RunArgs};
use crate::exit::{Exit, Failure};
use crate::inside::Ground;
use crate::interrupts::Interrupts;
use crate::out::errln;
use crate::plugin_settings;
use crate::plugins;
use crate::render::progress::Progress;
use crate::render::{jobs, json, summary};
use crate::spec_file::{self, SpecFile};

pub(crate) async fn execute(
    args: &RunArgs,
    dir: StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let how = How { resources: &args.resources, plugins: &args.plugins, resume: args.resume };
    run(spec_file::read(&args.spec)?, how, dir, format).await
}

/// How a spec is to be run.
pub(crate) struct How<'a> {
    pub(crate) resources: &'a ResourceArgs,
    pub(crate) plugins: &'a PluginArgs,
    pub(crate) resume: ResumeArgs,
}

/// Runs a spec that was read to its end.
pub(crate) async fn run(
    spec: SpecFile,
    how: How<'_>,
    dir: StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let workflow = spec_file::valid(&spec, format)?;
    plugin_settings::refuse_wrong(&spec, plugin_settings::HERE, how.plugins, format)?;
    let ground = Ground::find(how.resources, &workflow.header, how.plugins, &dir).await?;
    ground.place.announce();
    say_what_is_different_here(workflow, &ground);
    let origin = origin(&spec)?;
    let placers = plugins::placers(how.plugins)?;
    let mut session = Session::open(dir).await?.with_placers(placers);
    let id = match resumable(how.resume, &mut session, workflow, &origin).await? {
        Some(id) => id,
        None => {
            session.check(workflow, &origin, &ground.options)?;
            session.add(workflow, &origin).await?
        }
    };
    // A large workflow is in memory twice otherwise: the session loads what the store has.
    drop(spec);
    drive(session, (Some(id), None), ground, format).await
}

/// Which workflow is to be run, and what is wished where it is a restart.
pub(crate) type What = (Option<WorkflowId>, Option<RestartRequest>);

/// Runs a workflow that the store has to its end, with everything that a person sees and can do
/// meanwhile.
pub(crate) async fn drive(
    session: Session,
    what: What,
    ground: Ground,
    format: Format,
) -> Result<Exit, Failure> {
    let guest = ground.place.guest();
    let ended = drive_on(session, what, ground, format).await;
    if let Some(guest) = guest {
        guest.shutdown().await;
    }
    ended
}

async fn drive_on(
    session: Session,
    (id, restart): What,
    ground: Ground,
    format: Format,
) -> Result<Exit, Failure> {
    let Ground { options, place, launcher } = ground;
    let start = async move |start: Start<'_>| place.start(start, launcher).await;
    let mut running = match restart {
        Some(request) => session.restart((id, request), options, start).await?,
        None => session.begin(id, options, start).await?,
    };
    let interrupted = accompany(&mut running).await?;
    let outcome = running.wait().await?;
    conclude(&outcome, interrupted, format)
}

/// Shows progress and passes Ctrl-C on until the run ends. Whether there was a Ctrl-C.
async fn accompany(running: &mut Running) -> Result<bool, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let mut progress = Progress::begin(running);
    let mut interrupts_seen = 0;
    loop {
        tokio::select! {
            news = running.next() => match news {
                News::Ended => break,
                News::Notice(notice) => progress.say(&notice),
            },
            () = progress.tick() => progress.show(&running.handle).await,
            () = interrupts.next() => {
                interrupts_seen += 1;
                match interrupts_seen {
                    1 => {
                        progress.say("ending the running jobs gently; Ctrl-C again kills them");
                        running.stop();
                    }
                    2 => {
                        progress.say("killing the running jobs");
                        running.handle.kill();
                    }
                    // The keeper kills what is left of the jobs.
                    _ => return Err(Failure::new(Exit::Interrupted, "gave up waiting for jobs to end")),
                }
            }
        }
    }
    progress.end();
    Ok(interrupts_seen > 0)
}

/// Shows how a run ended, and chooses the exit code.
pub(crate) fn conclude(
    outcome: &RunOutcome,
    interrupted: bool,
    format: Format,
) -> Result<Exit, Failure> {
    match format {
        Format::Json => json(&outcome.report),
        Format::Table => summary::print(outcome),
    }
    Ok(summary::exit(outcome, interrupted))
}

/// The current folder: where jobs run.
pub(crate) fn submission_dir() -> Result<String, Failure> {
    let here = std::env::current_dir()
        .map_err(|error| Failure::new(Exit::Environment, format!("the current folder: {error}")))?;
    here.into_os_string().into_string().map_err(|name| {
        let name = name.to_string_lossy();
        Failure::new(
            Exit::Environment,
            format!("the name of the current folder is not UTF-8: {name}"),
        )
    })
}

/// Where a spec is run from now.
pub(crate) fn origin(spec: &SpecFile) -> Result<Origin, Failure> {
    let submission_dir = submission_dir()?;
    let spec_path = spec.path.as_ref().map(|path| path.to_string_lossy().into_owned());
    Ok(Origin { submission_dir, spec_path, submitted_at: now(), submitter: None })
}

/// The interrupted run of the same spec to go on with, if there is one and that is wished.
async fn resumable(
    args: ResumeArgs,
    session: &mut Session,
    workflow: &Workflow,
    origin: &Origin,
) -> Result<Option<WorkflowId>, Failure> {
    if args.new {
        return Ok(None);
    }
    let Some(id) = session.interrupted_twin(workflow, origin).await? else {
        return if args.resume {
            Err(Failure::new(
                Exit::Usage,
                "no interrupted run of this very spec is there to go on with; leave --resume out, \
                 or see `torc restart` if the spec has changed",
            ))
        } else {
            Ok(None)
        };
    };
    if args.resume {
        return Ok(Some(id));
    }
    let is_interactive = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if is_interactive && ask(&format!("Workflow {id} of this spec was interrupted. Go on with it?"))
    {
        return Ok(Some(id));
    }
    if !is_interactive {
        errln!(
            "Workflow {id} of this spec was interrupted. Starting anew, since --resume was not \
             given; `torc restart {id}` goes on with it."
        );
    }
    Ok(None)
}

/// A question on the terminal; yes when just return is pressed.
pub(crate) fn ask(question: &str) -> bool {
    errln!("{question} [Y/n]");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok()
        && matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes")
}

/// What of the spec is otherwise where it runs than with a server.
fn say_what_is_different_here(workflow: &Workflow, ground: &Ground) {
    let (header, place) = (&workflow.header, &ground.place);
    let schedules = |action: &Action| matches!(action.kind, ActionKind::ScheduleNodes { .. });
    let asks = header.actions.iter().any(schedules);
    if !header.schedulers.is_empty() || asks {
        let name = place.name();
        let without_effect = match asks && place.is_in_slurm() {
            true => {
                ", so when its actions ask for nodes, and for how many allocations, has no effect"
            }
            false => "",
        };
        errln!(
            "note: {name} stands for every scheduler of the spec; nothing is submitted{without_effect}"
        );
    }
    let slots = header.slots_in_place_of(ground.options.scheduler.as_deref());
    if let Some(words) = words_on_slots(&slots, place.has_slots()) {
        errln!("note: {words}");
    }
    let has_ranks = |needs: &Requirements| {
        needs.nodes > 1 && (needs.ntasks_per_node > 1 || needs.mpi.is_some())
    };
    // A launcher is told of them.
    let starts_ranks = place.has_ranks() || ground.launcher.is_some();
    if !starts_ranks && header.requirements.iter().any(has_ranks) {
        errln!(
            "note: here the command of a multi-node job is started once, on the first of its nodes; \
             ntasks_per_node and mpi are for Slurm"
        );
    }
}

/// What `max_parallel_jobs` of actions, each answer once, comes to where the jobs run.
fn words_on_slots(slots: &BTreeSet<Option<NonZeroU32>>, has_slots: bool) -> Option<String> {
    let most = slots.last().copied().flatten()?;
    Some(match (has_slots, slots.len()) {
        (true, 1) => {
            let jobs = jobs(most.get());
            format!(
                "each node takes {jobs} at once, whatever they need, as `max_parallel_jobs` says"
            )
        }
        (true, _) => {
            "the actions differ in `max_parallel_jobs`, so it has no effect, and jobs are \
             placed by what they need; --scheduler NAME says for which scheduler these nodes stand"
                .to_owned()
        }
        (false, _) => {
            "`max_parallel_jobs` of actions has no effect here: jobs are placed by what they \
             need, and --max-parallel-jobs caps how many run at once"
                .to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_max_parallel_jobs_comes_to_is_told_where_it_is_asked_for() {
        #[track_caller]
        fn check(slots: &[u32], has_slots: bool, expected: Option<&str>) {
            let slots = slots.iter().copied().map(NonZeroU32::new).collect();
            let words = words_on_slots(&slots, has_slots);
            assert_eq!(
                words.as_deref().map(|words| words.split(',').next().unwrap_or("")),
                expected
            );
        }
        check(&[0], true, None);
        check(&[0], false, None);
        check(&[4], true, Some("each node takes 4 jobs at once"));
        let differ = "the actions differ in `max_parallel_jobs`";
        check(&[0, 4], true, Some(differ));
        check(&[3, 4], true, Some(differ));
        let here =
            "`max_parallel_jobs` of actions has no effect here: jobs are placed by what they need";
        check(&[4], false, Some(here));
        check(&[0, 4], false, Some(here));
    }
}
