//! `torc logs`: the output of a job.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::time::Duration;

use torc_core::engine::JobStatus;
use torc_core::wire::{AttemptReport, JobReport};
use torc_server::access::Access;
use torc_server::state_dir::StateDir;

use crate::args::LogsArgs;
use crate::exit::{Exit, Failure};
use crate::out::{self, Output, errln};

/// How often a file that is followed is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);
const BUFFER: usize = 64 * 1024;

pub(crate) async fn execute(args: &LogsArgs, dir: &StateDir) -> Result<Exit, Failure> {
    let mut shown: Option<Shown> = None;
    loop {
        let look = Look::at(args, dir).await?;
        let may_go_on = args.follow && look.is_live && !look.has_ended(args);
        if let Some(attempt) = &look.attempt {
            shown = Some(Shown::of(args, attempt, shown)?);
        } else if shown.is_none() && !may_go_on {
            return Err(Failure::new(Exit::Usage, look.why_nothing(args)));
        }
        for stream in shown.iter_mut().flat_map(|shown| &mut shown.streams) {
            stream.pass_on()?;
        }
        if !may_go_on || out::state() != Output::Open {
            return Ok(Exit::Success);
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

/// An attempt whose output is being passed on.
struct Shown {
    step: String,
    streams: Vec<Stream>,
}

impl Shown {
    /// The same attempt again, or the next one after the rest of the last.
    fn of(args: &LogsArgs, attempt: &AttemptReport, last: Option<Self>) -> Result<Self, Failure> {
        match last {
            Some(last) if last.step == attempt.step => return Ok(last),
            Some(mut last) => {
                for stream in &mut last.streams {
                    stream.pass_on()?;
                }
                errln!("{} ended; {} follows", last.step, attempt.step);
            }
            None => {}
        }
        Ok(Self { step: attempt.step.clone(), streams: open(args, attempt)? })
    }
}

/// What is known of a job now.
struct Look {
    /// Somebody runs its workflow, or at least owns its state directory.
    is_live: bool,
    status: JobStatus,
    /// The attempt to show: one whose process runs or ran, since no other has files.
    attempt: Option<AttemptReport>,
}

impl Look {
    /// At the attempt that the command line asks for.
    async fn at(args: &LogsArgs, dir: &StateDir) -> Result<Self, Failure> {
        if let Some(step) = &args.attempt {
            return Self::at_step(args, dir, step).await;
        }
        let access = Access::open(dir).await?;
        let job = job(args, &access).await?;
        Ok(Self::new(&access, job.status, job.latest))
    }

    /// At one attempt.
    async fn at_step(args: &LogsArgs, dir: &StateDir, step: &str) -> Result<Self, Failure> {
        let access = Access::open(dir).await?;
        let job = job(args, &access).await?;
        let found = access.attempt(args.workflow, step).await?;
        let Some(found) = found.filter(|found| found.job == args.job) else {
            let message = format!(
                "job `{0}` has no attempt {step}; `torc results --job {0}` lists them",
                args.job
            );
            return Err(Failure::new(Exit::Usage, message));
        };
        Ok(Self::new(&access, job.status, Some(found)))
    }

    fn new(access: &Access, status: JobStatus, attempt: Option<AttemptReport>) -> Self {
        let has_begun =
            |found: &AttemptReport| found.started_at.is_some() || found.ended_at.is_some();
        let is_live = matches!(access, Access::Live(..));
        Self { is_live, status, attempt: attempt.filter(has_begun) }
    }

    /// Whether nothing more can come: the job has ended, or the one attempt that was asked for.
    fn has_ended(&self, args: &LogsArgs) -> bool {
        let attempt_has = self.attempt.as_ref().is_some_and(|attempt| attempt.ended_at.is_some());
        self.status.has_ended() || args.attempt.is_some() && attempt_has
    }

    fn why_nothing(&self, args: &LogsArgs) -> String {
        let job = &args.job;
        if self.status.has_ended() {
            format!("job `{job}` was never started: it is {}", self.status)
        } else if self.is_live {
            format!("job `{job}` has not started yet; -f waits for it")
        } else {
            format!("job `{job}` has not started, and nobody runs its workflow now")
        }
    }
}

async fn job(args: &LogsArgs, access: &Access) -> Result<JobReport, Failure> {
    if let Some(job) = access.job(args.workflow, &args.job).await? {
        return Ok(job);
    }
    let jobs = access.jobs(args.workflow).await?;
    let names = jobs.iter().map(|job| job.name.as_str());
    super::check_names(std::slice::from_ref(&args.job), names)?;
    Err(Failure::internal(&"a job that is there was not found"))
}

fn open(args: &LogsArgs, attempt: &AttemptReport) -> Result<Vec<Stream>, Failure> {
    let stdout = attempt.stdout.as_ref().filter(|_| !args.stderr);
    let stderr = attempt.stderr.as_ref().filter(|_| !args.stdout);
    // Both in one file are one stream.
    let stderr = stderr.filter(|path| stdout != Some(path));
    let paths: Vec<&String> = stdout.into_iter().chain(stderr).collect();
    if paths.is_empty() {
        let message = format!("that output of {} was discarded, as its spec says", attempt.step);
        return Err(Failure::new(Exit::Usage, message));
    }
    paths.into_iter().map(|path| Stream::open(path)).collect()
}

/// A file that is passed on to standard output as it grows.
struct Stream {
    path: String,
    file: File,
}

impl Stream {
    fn open(path: &str) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::new(
                Exit::Usage,
                format!(
                    "{path} is not there: with delete_on_success output is removed when a job \
                     exits with 0, and an attempt that could not be launched has none"
                ),
            ),
            _ => unreadable(path, &error),
        })?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Passes on what was added.
    fn pass_on(&mut self) -> Result<(), Failure> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let read =
                self.file.read(&mut buffer).map_err(|error| unreadable(&self.path, &error))?;
            if read == 0 || out::state() != Output::Open {
                out::flush();
                return Ok(());
            }
            out::pass_on(&buffer[..read]);
        }
    }
}

fn unreadable(path: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Environment, format!("cannot read {path}: {error}"))
}
