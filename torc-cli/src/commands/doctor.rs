//! `torc doctor`: whether workflows can be submitted from here, and what is missing.
//!
//! Each check says what was looked at, what was found, and what to do. None changes anything, but for
//! files of its own that it removes; `--probe` starts a job of one node.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use torc_executors::slurm::{Call, Partition, Programs, SlurmScheduler};
use torc_server::access::Access;
use torc_server::doctor;
use torc_server::state_dir::StateDir;

use crate::args::{DoctorArgs, Format};
use crate::commands::serve::programs;
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::render::{json, table};
use crate::settings::Settings;

/// What one check found.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do, when something is to be done.
    help: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Good,
    Warning,
    Bad,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// A clock that differs by more than this from the controller's confuses ends of allocations.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);
/// How long a probe may wait for its node.
const PROBE_PATIENCE: Duration = Duration::from_secs(120);
/// How long after its end a connection of its job may still wait to be taken.
const AFTER_JOB: Duration = Duration::from_secs(1);

pub(crate) async fn execute(
    args: &DoctorArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let settings = Settings::load()?;
    let programs = programs(&settings);
    let scheduler = SlurmScheduler::new(programs.clone());
    let mut findings = vec![version(&scheduler).await];
    if findings[0].verdict != Verdict::Bad {
        findings.push(partitions(&scheduler).await);
        findings.push(accounting(&programs).await);
        findings.push(clock(&programs).await);
    }
    findings.push(file_system(dir).await);
    findings.push(server(dir).await);
    if args.probe {
        findings.push(probe(args, &programs).await);
    }
    let worst_is_bad = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    match format {
        Format::Json => json(&findings),
        Format::Table => print(&findings),
    }
    Ok(if worst_is_bad { Exit::Environment } else { Exit::Success })
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

fn good(check: &'static str, found: impl Into<String>) -> Finding {
    Finding { check, verdict: Verdict::Good, found: found.into(), help: None }
}

fn poor(
    check: &'static str,
    verdict: Verdict,
    found: impl ToString,
    help: impl Into<String>,
) -> Finding {
    Finding { check, verdict, found: found.to_string(), help: Some(help.into()) }
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
            good("slurm", found)
        }
        Err(error) => poor(
            "slurm",
            Verdict::Bad,
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
            good("partitions", words.join(", "))
        }
        Ok(_) => poor(
            "partitions",
            Verdict::Bad,
            "none takes requests",
            "ask the site: `sinfo` shows the state of each partition",
        ),
        Err(error) => {
            poor("partitions", Verdict::Bad, error, "`sinfo` must work on this host, for this user")
        }
    }
}

async fn accounting(programs: &Programs) -> Finding {
    let call = Call::new("sacct", ["--noheader", "--allocations", "--starttime=now"]);
    match programs.run(call).await {
        Ok(_) => good("accounting", "sacct answers; results get memory and CPU time"),
        Err(error) => poor(
            "accounting",
            Verdict::Warning,
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
            return poor("clock", Verdict::Warning, error, "`scontrol show config` must work");
        }
    };
    let text = answer.text().unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let told = line.rsplit(' ').next().unwrap_or_default();
    let Some(theirs) = torc_executors::slurm::duration::parse_moment(told) else {
        let help = "the first line of `scontrol show config` has the controller's time";
        return poor("clock", Verdict::Warning, format!("cannot read `{line}`"), help);
    };
    let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let theirs = Duration::from_millis(theirs.0);
    let apart = ours.abs_diff(theirs);
    let found = format!("{} s apart from the controller's", apart.as_secs());
    if apart <= CLOCK_TOLERANCE {
        good("clock", found)
    } else {
        poor("clock", Verdict::Warning, found, "synchronise the clocks (chrony or ntpd)")
    }
}

/// Whether the database can live where the state directory is.
async fn file_system(dir: &StateDir) -> Finding {
    match doctor::check_file_system(dir).await {
        Ok(found) => good("file system", format!("{}: {found}", dir.path().display())),
        Err(error) => poor(
            "file system",
            Verdict::Bad,
            error,
            "choose another --output-dir that all nodes can write, on a file system with locks",
        ),
    }
}

async fn server(dir: &StateDir) -> Finding {
    match Access::live_owner(dir).await {
        Ok(Some(owner)) => good("server", format!("{owner} answers")),
        Ok(None) => good("server", "none runs; `torc submit` starts one"),
        Err(error) => poor("server", Verdict::Bad, error, "`torc serve --takeover` replaces it"),
    }
}

/// Starts a job of one node that connects to a port of this host.
async fn probe(args: &DoctorArgs, programs: &Programs) -> Finding {
    const CHECK: &str = "probe";
    let probe = match doctor::Probe::open() {
        Ok(probe) => probe,
        Err(error) => {
            return poor(CHECK, Verdict::Bad, error, "this host must be able to listen");
        }
    };
    let reached = |from| good(CHECK, format!("a compute node connected from {from}"));
    let call = probe_call(args, &probe.addresses());
    let job = programs.run(call);
    tokio::pin!(job);
    tokio::select! {
        from = probe.wait(PROBE_PATIENCE) => match from {
            Some(from) => reached(from),
            None => poor(CHECK, Verdict::Bad, "no compute node connected in time", HELP),
        },
        answer = &mut job => match (answer, probe.wait(AFTER_JOB).await) {
            (_, Some(from)) => reached(from),
            (Ok(_), None) => poor(CHECK, Verdict::Bad, "the job ran, but did not connect", HELP),
            (Err(error), None) => poor(CHECK, Verdict::Bad, error, HELP),
        },
    }
}

const HELP: &str = "a firewall may keep compute nodes from this host's ports: ask the site for a port \
                    that is open, and set server.port";

/// Tries all addresses, one after another: host and port by turns.
const PROBE: &str = "while [ $# -gt 1 ]; do
  timeout 5 bash -c 'exec 3<>\"/dev/tcp/$0/$1\"' \"$1\" \"$2\" && exit 0
  shift 2
done
exit 1";

fn probe_call(args: &DoctorArgs, addresses: &[String]) -> Call {
    let option = |name: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!("--{name}={value}"))
    };
    let words = ["--nodes=1", "--ntasks=1", "--time=2", "--quiet", "--job-name=torc_probe"];
    let targets = addresses
        .iter()
        .filter_map(|address| address.rsplit_once(':'))
        .flat_map(|(host, port)| [host.trim_matches(['[', ']']).to_owned(), port.to_owned()]);
    let call = words
        .map(str::to_owned)
        .into_iter()
        .chain(option("account", &args.account))
        .chain(option("partition", &args.partition))
        .chain(["bash", "-c", PROBE, "torc-probe"].map(str::to_owned))
        .chain(targets);
    Call::new("srun", call)
}
