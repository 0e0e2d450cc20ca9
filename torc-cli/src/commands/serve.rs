//! `torc serve`: the server of a state directory, from its beginning to its clean end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Map;
use torc_core::ids::StepId;
use torc_core::traits::{Scheduler, SchedulerError, StepAccount};
use torc_executors::slurm::{Accounting, Programs, SlurmScheduler};
use torc_plugins::PluginScheduler;
use torc_server::access::Access;
use torc_server::accountant::{Accounts, Question};
use torc_server::schedulers::Schedulers;
use torc_server::serve::{ServeEnd, ServeOptions, Server};
use torc_server::server_process::FirstWords;
use torc_server::state_dir::StateDir;

use crate::args::{PluginArgs, ServeArgs};
use crate::exit::{Exit, Failure};
use crate::interrupts::Interrupts;
use crate::out::{self, errln};
use crate::plugins::{self, shelf};
use crate::settings::Settings;

pub(crate) async fn execute(args: &ServeArgs, dir: StateDir) -> Result<Exit, Failure> {
    if args.stop || args.takeover {
        let stopped = Access::stop_server(&dir).await?;
        if args.stop {
            errln!("{}", if stopped { "the server has ended" } else { "no server runs" });
            return Ok(Exit::Success);
        }
    }
    if args.detached {
        // A failure means that this process leads a session already.
        let _ = nix::unistd::setsid();
    }
    let started = start(args, dir.clone()).await;
    if args.detached {
        let words = match &started {
            Ok(_) => FirstWords::Ready,
            Err(failure) => FirstWords::Failed(failure.message.clone()),
        };
        say_first_words(&words)?;
    }
    let server = started?;
    if !args.detached {
        errln!("serving {}; Ctrl-C ends the server, not what runs", dir.path().display());
    }
    let mut interrupts = Interrupts::listen()?;
    let end = server.serve(async move { interrupts.next().await }).await?;
    if end == ServeEnd::Idle && !args.detached {
        errln!("the server ends: it has had nothing to do for a while");
    }
    Ok(Exit::Success)
}

async fn start(args: &ServeArgs, dir: StateDir) -> Result<Server, Failure> {
    let settings = Settings::load()?;
    let placers = plugins::placers(&args.plugins)?;
    let idle_exit = args.idle_exit.unwrap_or(settings.idle_exit.value);
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(Exit::Environment, format!("where torc itself lies is not known: {error}"))
    })?;
    let options = ServeOptions {
        dir,
        schedulers: Arc::new(schedulers(&settings)),
        accounts: Some(Accounts {
            source: Arc::new(StepAccounts(Accounting::new(programs(&settings)))),
            interval: settings.accounting_poll.value,
        }),
        placers,
        limits: settings.limits(),
        program,
        port: args.port.unwrap_or(settings.port.value),
        idle_exit: (idle_exit > Duration::ZERO).then_some(idle_exit),
    };
    Ok(Server::start(options).await?)
}

/// Slurm, and whatever plugins there are when a workflow asks for them.
fn schedulers(settings: &Settings) -> Schedulers {
    let slurm: Arc<dyn Scheduler> = Arc::new(SlurmScheduler::new(programs(settings)));
    let built_in = BTreeMap::from([("slurm".to_owned(), slurm)]);
    Schedulers::new(
        built_in,
        Arc::new(|kind| {
            let shelf = shelf(&PluginArgs::default()).map_err(|failure| failure.message)?;
            let plugin = shelf.plugin(kind).map_err(|error| error.to_string())?;
            let opened = PluginScheduler::open(&plugin, &Map::new());
            opened.map(|scheduler| Arc::new(scheduler) as _).map_err(|error| error.to_string())
        }),
    )
}

/// Slurm's accounting, as the server asks it.
struct StepAccounts(Accounting);

#[async_trait]
impl torc_server::accountant::Accounting for StepAccounts {
    async fn accounts(
        &self,
        question: &Question,
    ) -> Result<Vec<(StepId, StepAccount)>, SchedulerError> {
        let mut found = self.0.accounts(question.steps.keys(), question.since).await?;
        let asked = question.steps.values().flatten();
        Ok(asked.filter_map(|step| found.remove_entry(step)).collect())
    }
}

/// Slurm's client programs, as the settings say.
pub(crate) fn programs(settings: &Settings) -> Programs {
    let mut env: Vec<_> = std::env::vars_os().collect();
    if let Some(folder) = &settings.slurm_programs.value {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(folder.clone()).chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(folders) {
            env.retain(|(name, _)| name != "PATH");
            env.push(("PATH".into(), path));
        }
    }
    Programs::new(env)
}

/// Tells whoever started this process in the background, and lets go of its output.
fn say_first_words(words: &FirstWords) -> Result<(), Failure> {
    let text = serde_json::to_vec(words).map_err(|error| Failure::internal(&error))?;
    out::pass_on(&text);
    out::flush();
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null");
    let null = null.map_err(|error| Failure::internal(&error))?;
    nix::unistd::dup2_stdout(&null).map_err(|error| Failure::internal(&error))
}
