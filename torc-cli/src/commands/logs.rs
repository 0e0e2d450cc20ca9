//! `torc logs`: the output of a job.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use torc_core::wire::AttemptReport;
use torc_server::access::Access;
use torc_server::state_dir::StateDir;

use crate::args::LogsArgs;
use crate::exit::{Exit, Failure};

/// How often a file that is followed is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);
const BUFFER: usize = 64 * 1024;

pub(crate) async fn execute(args: &LogsArgs, dir: &StateDir) -> Result<Exit, Failure> {
    let mut attempt = chosen(args, dir).await?;
    while attempt.is_none() && args.follow {
        tokio::time::sleep(FOLLOW_EVERY).await;
        attempt = chosen(args, dir).await?;
    }
    let Some(mut attempt) = attempt else {
        return Err(Failure::new(
            Exit::Usage,
            format!("job `{}` has not started yet; -f waits for it", args.job),
        ));
    };
    let mut streams = open(args, &attempt)?;
    loop {
        let is_over = attempt.ended_at.is_some();
        for stream in &mut streams {
            if stream.pass_on()?.is_none() {
                return Ok(Exit::Success);
            }
        }
        if is_over || !args.follow {
            return Ok(Exit::Success);
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
        attempt = current(args, dir, &attempt.step).await?;
    }
}

/// The attempt to show; `None`: the job has none yet whose process runs or ran.
async fn chosen(args: &LogsArgs, dir: &StateDir) -> Result<Option<AttemptReport>, Failure> {
    let attempt = named(args, dir).await?;
    // One that was only given its nodes has no files yet.
    Ok(attempt.filter(|attempt| attempt.started_at.is_some() || attempt.ended_at.is_some()))
}

async fn named(args: &LogsArgs, dir: &StateDir) -> Result<Option<AttemptReport>, Failure> {
    let access = Access::open(dir).await?;
    let Some(step) = &args.attempt else {
        if let Some(job) = access.job(args.workflow, &args.job).await? {
            return Ok(job.latest);
        }
        let jobs = access.jobs(args.workflow).await?;
        let known = jobs.iter().map(|job| job.name.as_str());
        super::check_names(std::slice::from_ref(&args.job), known)?;
        return Ok(None);
    };
    let found = access.attempt(args.workflow, step).await?;
    found.filter(|found| found.job == args.job).map(Some).ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!(
                "job `{0}` has no attempt {step}; `torc results --job {0}` lists them",
                args.job
            ),
        )
    })
}

async fn current(args: &LogsArgs, dir: &StateDir, step: &str) -> Result<AttemptReport, Failure> {
    Access::open(dir).await?.attempt(args.workflow, step).await?.ok_or_else(|| {
        Failure::new(Exit::Environment, format!("attempt {step} is no longer in the database"))
    })
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

    /// Passes on what was added. `None`: nobody reads standard output any more.
    fn pass_on(&mut self) -> Result<Option<()>, Failure> {
        let mut buffer = vec![0; BUFFER];
        let mut out = std::io::stdout().lock();
        loop {
            let read =
                self.file.read(&mut buffer).map_err(|error| unreadable(&self.path, &error))?;
            if read == 0 {
                return Ok(out.flush().ok());
            }
            if out.write_all(&buffer[..read]).is_err() {
                return Ok(None);
            }
        }
    }
}

fn unreadable(path: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Environment, format!("cannot read {path}: {error}"))
}
