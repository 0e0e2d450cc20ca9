//! What a plugin can be to torc: the interfaces of this version, and the methods of each.

use torc_plugin::abi::interface;

/// An interface that this torc knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Says how a step is started.
    Launcher,
    /// Runs steps.
    Executor,
    /// Gives allocations.
    Scheduler,
    /// Decides what starts where.
    Placer,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Launcher, Self::Executor, Self::Scheduler, Self::Placer];

    /// Its name with its version, as plugins say it.
    pub fn id(self) -> &'static str {
        match self {
            Self::Launcher => interface::LAUNCHER,
            Self::Executor => interface::EXECUTOR,
            Self::Scheduler => interface::SCHEDULER,
            Self::Placer => interface::PLACER,
        }
    }

    /// Its name for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Launcher => "launcher",
            Self::Executor => "executor",
            Self::Scheduler => "scheduler",
            Self::Placer => "placer",
        }
    }

    /// What it is asked.
    pub fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Launcher => &["plan"],
            Self::Executor => &["inventory", "launch", "signal", "reconcile"],
            Self::Scheduler => &["shapes", "submit", "find", "observe", "cancel"],
            Self::Placer => &["plan", "explain", "rebuild"],
        }
    }

    /// The one with this name, with or without its version.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.id() == name || kind.word() == name)
    }
}
