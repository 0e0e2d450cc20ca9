//! The list of all checks, and how one is run.
//!
//! Owns: the names. Does not know: what any check does. Invariant: no name is there twice.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::executor::{self, ExecutorSite};
use crate::finding::Verdict;
use crate::launcher::{self, LauncherSite};
use crate::placer::{self, PlacerSite};
use crate::scheduler::{self, SchedulerSite};

/// One promise of one trait.
pub struct Check {
    /// Its name: the interface, a dot, what must hold.
    pub name: &'static str,
    /// What it proves, as a sentence.
    pub proves: &'static str,
    run: Run,
}

/// A verdict to come.
pub(crate) type Eventual<'a> = Pin<Box<dyn Future<Output = Verdict> + 'a>>;

enum Run {
    Launcher(fn(&LauncherSite<'_>) -> Verdict),
    Executor(for<'a> fn(&'a ExecutorSite<'a>) -> Eventual<'a>),
    Scheduler(for<'a> fn(&'a SchedulerSite<'a>) -> Eventual<'a>),
    Placer(fn(&PlacerSite<'_>) -> Verdict),
}

/// What a plugin can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// [`torc_core::traits::Launcher`].
    Launcher,
    /// [`torc_core::traits::Executor`].
    Executor,
    /// [`torc_core::traits::Scheduler`].
    Scheduler,
    /// [`torc_core::traits::Placer`].
    Placer,
}

/// What is looked at, and where.
#[derive(Clone, Copy)]
pub enum Candidate<'a> {
    /// A launcher.
    Launcher(&'a LauncherSite<'a>),
    /// An executor.
    Executor(&'a ExecutorSite<'a>),
    /// A scheduler.
    Scheduler(&'a SchedulerSite<'a>),
    /// A placer.
    Placer(&'a PlacerSite<'a>),
}

impl Candidate<'_> {
    /// What it is.
    pub fn interface(&self) -> Interface {
        match self {
            Self::Launcher(_) => Interface::Launcher,
            Self::Executor(_) => Interface::Executor,
            Self::Scheduler(_) => Interface::Scheduler,
            Self::Placer(_) => Interface::Placer,
        }
    }
}

impl Check {
    pub(crate) const fn launcher(
        name: &'static str,
        proves: &'static str,
        run: fn(&LauncherSite<'_>) -> Verdict,
    ) -> Self {
        Self { name, proves, run: Run::Launcher(run) }
    }

    pub(crate) const fn executor(
        name: &'static str,
        proves: &'static str,
        run: for<'a> fn(&'a ExecutorSite<'a>) -> Eventual<'a>,
    ) -> Self {
        Self { name, proves, run: Run::Executor(run) }
    }

    pub(crate) const fn scheduler(
        name: &'static str,
        proves: &'static str,
        run: for<'a> fn(&'a SchedulerSite<'a>) -> Eventual<'a>,
    ) -> Self {
        Self { name, proves, run: Run::Scheduler(run) }
    }

    pub(crate) const fn placer(
        name: &'static str,
        proves: &'static str,
        run: fn(&PlacerSite<'_>) -> Verdict,
    ) -> Self {
        Self { name, proves, run: Run::Placer(run) }
    }

    /// What it is about.
    pub fn interface(&self) -> Interface {
        match self.run {
            Run::Launcher(_) => Interface::Launcher,
            Run::Executor(_) => Interface::Executor,
            Run::Scheduler(_) => Interface::Scheduler,
            Run::Placer(_) => Interface::Placer,
        }
    }

    /// Looks at the candidate; `None`: it is of another interface. Checks of executors and schedulers need a tokio
    /// runtime with time and I/O. What a launcher or a placer does takes this thread's time.
    pub async fn run(&self, candidate: Candidate<'_>) -> Option<Verdict> {
        match (&self.run, candidate) {
            (Run::Launcher(run), Candidate::Launcher(site)) => Some(run(site)),
            (Run::Executor(run), Candidate::Executor(site)) => Some(run(site).await),
            (Run::Scheduler(run), Candidate::Scheduler(site)) => Some(run(site).await),
            (Run::Placer(run), Candidate::Placer(site)) => Some(run(site)),
            _ => None,
        }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All checks, in a good order to run them: what others rest on comes first.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    [launcher::CHECKS, executor::CHECKS, scheduler::CHECKS, placer::CHECKS].into_iter().flatten()
}

/// The checks of one interface.
pub fn checks_of(interface: Interface) -> impl Iterator<Item = &'static Check> {
    checks().filter(move |check| check.interface() == interface)
}

/// Runs one check by its name; `None`: there is none of that name for such a candidate.
pub async fn run(name: &str, candidate: Candidate<'_>) -> Option<Verdict> {
    let check = checks_of(candidate.interface()).find(|check| check.name == name)?;
    check.run(candidate).await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_begin_with_their_interface() {
        let mut names = BTreeSet::new();
        for check in checks() {
            let interface = format!("{:?}.", check.interface()).to_lowercase();
            assert!(check.name.starts_with(&interface), "{}", check.name);
            assert!(names.insert(check.name), "{} is there twice", check.name);
            assert!(check.proves.ends_with('.'), "{}", check.proves);
        }
    }
}
