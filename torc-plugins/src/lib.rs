//! The plugin boundary: where a site's own launchers, schedulers, placers and executors are loaded from shared
//! libraries and started as programs.
//!
//! Owns: which files are trusted and how they are found ([`Shelf`]), how they are called, what makes a trait of
//! torc's of each interface, and what their authors are given: checks ([`check`]) and beginnings ([`starter`]). Does not know: what a launcher or a scheduler is asked for, and when. Invariants: nothing
//! of a plugin runs before it was examined; whatever it does, short of ending the process that it is loaded into, is a
//! value here, in words that name it.
#![expect(unsafe_code, reason = "this is where foreign code is called")]

mod about;
mod calls;
pub mod check;
mod error;
mod executor;
mod instance;
mod kind;
mod launcher;
mod library;
mod placer;
pub mod probe;
mod process;
mod scheduler;
pub mod settings;
mod shelf;
pub mod starter;
mod trust;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;

pub use about::{About, is_name};
pub use error::{CallError, Distrust, Fault, PluginError};
pub use executor::{Clock, PluginExecutor};
pub use kind::Kind;
pub use launcher::PluginLauncher;
pub use placer::PluginPlacer;
pub use scheduler::PluginScheduler;
pub use shelf::{Found, Places, Plugin, Shelf};
pub use trust::{Trust, digest};
