//! `torc doctor`: whether workflows can be submitted from here, and what is missing.
//!
//! Each check says what was looked at, what was found, and what to do. None changes anything, but for
//! files of its own that it removes; `--probe` starts a job of one node.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use torc_executors::slurm::{Call, Partition, Programs, SlurmScheduler};
use torc_server::access::Access;
use torc_server::doctor::{self, FileSystemError, Trial};
use torc_server::state_dir::StateDir;

use crate::args::{DoctorArgs, DoctorPart, Format};
use crate::commands::serve::programs;
use crate::exit::{Exit, Failure};
use crate::finding::{Finding, Verdict};
use crate::out::outln;
use crate::probe::{Probing, compare_clocks};
use crate::render::{json, table};
use crate::settings::Settings;

pub(crate) async fn execute(
    args: &DoctorArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    match &args.part {
        Some(DoctorPart::SecondOwner) => return answer(&doctor::second_owner(dir).await),
        Some(DoctorPart::FromNode { addresses }) => return from_node(dir, addresses).await,
        None => {}
    }
    let settings = Settings::load()?;
    let programs = programs(&settings);
    let scheduler = SlurmScheduler::new(programs.clone());
    let mut findings = vec![version(&scheduler).await];
    let has_slurm = findings[0].verdict != Verdict::Bad;
    if has_slurm {
        findings.push(partitions(&scheduler).await);
        findings.push(accounting(&programs).await);
        findings.push(clock(&programs).await);
    }
    let (finding, trial) = file_system(dir).await;
    findings.push(finding);
    findings.push(server(dir).await);
    if let (true, true, Some(trial)) = (args.probe, has_slurm, &trial) {
        let (port, programs) = (&settings.port, &programs);
        findings.extend(Probing { args, port, dir, trial, programs }.findings().await?);
    }
    if let Some(trial) = trial {
        trial.end().await;
    }
    let worst_is_bad = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    match format {
        Format::Json => json(&findings),
        Format::Table => print(&findings),
    }
    Ok(if worst_is_bad { Exit::Environment } else { Exit::Success })
}

/// What another process of torc is told, on a line of its own.
fn answer<T: Serialize>(value: &T) -> Result<Exit, Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::internal(&error))?;
    outln!("{text}");
    Ok(Exit::Success)
}

async fn from_node(folder: &StateDir, addresses: &[String]) -> Result<Exit, Failure> {
    let mut sight = doctor::look(folder, addresses).await;
    // A node may have another name for Slurm than for itself.
    if let Ok(name) = std::env::var("SLURMD_NODENAME") {
        sight.host = name;
    }
    answer(&sight)
}

fn print(findings: &[Finding]) {
    let rows = findings.iter().map(|finding| {
        vec![finding.check.to_owned(), finding.verdict.word().to_owned(), finding.found.clone()]
    });
    table(&["check", "verdict", "found"], rows);
    for finding in findings {
        if let Some(help) = &finding.help {
            outln!("{}: {help}", finding.check);
        }
    }
}

async fn version(scheduler: &SlurmScheduler) -> Finding {
    match scheduler.dialect().await {
        Ok(dialect) => {
            let version = dialect.version();
            let mut found = format!("Slurm {version}");
            found += if dialect.srun_reads_cpus_per_task() {
                "; its srun reads SLURM_CPUS_PER_TASK, which torc keeps from it"
            } else {
                "; its srun does not read SLURM_CPUS_PER_TASK"
            };
            Finding::good("slurm", found)
        }
        Err(error) => Finding::bad(
            "slurm",
            error,
            "load Slurm's module or add its folder to PATH; `torc run` needs no Slurm",
        ),
    }
}

async fn partitions(scheduler: &SlurmScheduler) -> Finding {
    match scheduler.partitions().await {
        Ok(partitions) if partitions.iter().any(Partition::takes_requests) => {
            let words: Vec<String> = partitions
                .iter()
                .map(|partition| {
                    let nodes = partition.usable_nodes();
                    let mark = if partition.is_default { ", the default" } else { "" };
                    format!("{} ({nodes} nodes{mark})", partition.name)
                })
                .collect();
            Finding::good("partitions", words.join(", "))
        }
        Ok(_) => Finding::bad(
            "partitions",
            "none takes requests",
            "ask the site: `sinfo` shows the state of each partition",
        ),
        Err(error) => {
            Finding::bad("partitions", error, "`sinfo` must work on this host, for this user")
        }
    }
}

async fn accounting(programs: &Programs) -> Finding {
    let call = Call::new("sacct", ["--noheader", "--allocations", "--starttime=now"]);
    match programs.run(call).await {
        Ok(_) => Finding::good("accounting", "sacct answers; results get memory and CPU time"),
        Err(error) => Finding::warning(
            "accounting",
            error,
            "torc works without it; results of steps then lack memory and CPU time",
        ),
    }
}

/// Compares this host's clock with the controller's, as its answer has it.
async fn clock(programs: &Programs) -> Finding {
    let call = Call::new("scontrol", ["show", "config"]);
    let answer = match programs.run(call).await {
        Ok(answer) => answer,
        Err(error) => {
            return Finding::warning("clock", error, "`scontrol show config` must work");
        }
    };
    let text = answer.text().unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let told = line.rsplit(' ').next().unwrap_or_default();
    let Some(theirs) = torc_executors::slurm::duration::parse_moment(told) else {
        let help = "the first line of `scontrol show config` has the controller's time";
        return Finding::warning("clock", format!("cannot read `{line}`"), help);
    };
    let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let apart = ours.abs_diff(Duration::from_millis(theirs.0));
    compare_clocks("clock", apart, "the controller")
}

/// Whether the database can live where the state directory is. The database of the trial, if it can be
/// made.
async fn file_system(dir: &StateDir) -> (Finding, Option<Trial>) {
    const CHECK: &str = "file system";
    let bad = |error: FileSystemError| {
        let help =
            "choose another --output-dir that all nodes can write, on a file system with locks";
        Finding::bad(CHECK, error, help)
    };
    let trial = match Trial::begin(dir).await {
        Ok(trial) => trial,
        Err(error) => return (bad(error), None),
    };
    let program = std::env::current_exe().unwrap_or_else(|_| "torc".into());
    let finding = match trial.refuses_a_second(&program).await {
        Ok(()) => {
            Finding::good(CHECK, format!("{}: {}", dir.path().display(), trial.file_system()))
        }
        Err(error) => bad(error),
    };
    (finding, Some(trial))
}

async fn server(dir: &StateDir) -> Finding {
    match Access::live_owner(dir).await {
        Ok(Some(owner)) => Finding::good("server", format!("{owner} answers")),
        Ok(None) => Finding::good("server", "none runs; `torc submit` starts one"),
        Err(error) => Finding::bad("server", error, "`torc serve --takeover` replaces it"),
    }
}
