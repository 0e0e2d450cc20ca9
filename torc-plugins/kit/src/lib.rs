//! The conformance kit: named checks of what the traits of torc-core promise, for whoever implements one.
//!
//! Owns: the checks. Does not know: what it looks at, be it built in, a shared library or a program; nor who shows
//! the findings. Invariant: whatever is wrong with a candidate is a [`Finding`] in words; the kit itself does not
//! panic, print or exit. A candidate that takes its process along takes the check along: whoever fears that runs each
//! check in a process of its own ([`checks`] lists their names, [`run`] runs one).
//!
//! ```
//! use torc_core::placer::{Policy, WholeNodePlacer};
//! use torc_core::workflow::SortMethod;
//! use torc_plugin_kit::{Candidate, Interface, PlacerSite, checks_of};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let make = || Ok(Box::new(WholeNodePlacer::new(SortMethod::None, Policy::Pack)) as _);
//! let site = PlacerSite { cases: 2, ..PlacerSite::new(&make) };
//! for check in checks_of(Interface::Placer) {
//!     assert_eq!(check.run(Candidate::Placer(&site)).await, Some(Ok(())), "{}", check.name);
//! }
//! # });
//! ```

mod check;
mod executor;
mod finding;
mod launcher;
mod placer;
mod random;
mod scheduler;
mod steps;

pub use check::{Candidate, Check, Interface, checks, checks_of, run};
pub use executor::{ExecutorSite, Executors, OpenExecutor};
pub use finding::{Finding, Verdict};
pub use launcher::LauncherSite;
pub use placer::{PlacerSite, Walks};
pub use scheduler::SchedulerSite;
