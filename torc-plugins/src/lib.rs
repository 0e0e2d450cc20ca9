//! The plugin boundary: where a site's own launchers, schedulers, placers and executors are loaded from shared
//! libraries and started as programs.
//!
//! Owns: which files are trusted and how they are found ([`Shelf`]), how they are called, and what makes a trait of
//! torc's of each interface. Does not know: what a launcher or a scheduler is asked for, and when. Invariants: nothing
//! of a plugin runs before it was examined; whatever it does, short of ending the process that it is loaded into, is a
//! value here, in words that name it.
#![expect(unsafe_code, reason = "this is where foreign code is called")]

mod about;
mod calls;
mod error;
mod executor;
mod instance;
mod launcher;
mod library;
mod process;
mod scheduler;
mod shelf;
mod trust;

#[cfg(test)]
mod tests;

pub use about::About;
pub use error::{CallError, Distrust, Fault, PluginError};
pub use executor::{Clock, PluginExecutor};
pub use launcher::PluginLauncher;
pub use scheduler::PluginScheduler;
pub use shelf::{Found, Places, Plugin, Shelf};
pub use trust::{Trust, digest};
