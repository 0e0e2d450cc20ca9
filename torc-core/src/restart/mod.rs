//! Which jobs a restart runs again, and why.
//!
//! Owns that decision: from how jobs ended, from what the spec says now, and from what was seen of files. Does
//! not read specs or files. Invariant: a job that runs again has a reason, and all that depends on it runs
//! again, too.

mod changes;
mod decision;
mod evidence;
mod reason;
mod revision;
#[cfg(test)]
mod tests;

pub use decision::{Again, Plan, Wish, decide};
pub use evidence::{Checklist, Evidence};
pub use reason::{Changed, Reason};
pub use revision::Revision;
