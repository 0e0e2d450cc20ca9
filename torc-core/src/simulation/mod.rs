//! Virtual time: a workload of the past, or one that was made up, on nodes that need not exist, decided
//! by the placer that decides for real.
//!
//! Owns: the clock, the queue of what happens next, and the figures. Does not know: how the placer
//! decides. Invariant: the same workload on the same nodes gives the same schedule and the same
//! figures.

mod figures;
mod machine;
mod replay;
pub mod swf;
#[cfg(test)]
mod tests;

pub use figures::{Figures, Spread, figures};
pub use machine::Machine;
pub use replay::{Replay, Scheduled, WorkloadJob, replay};
