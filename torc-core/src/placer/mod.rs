//! The whole-node placer: decides which ready jobs start on which nodes, now.
//!
//! Owns: its own books of nodes, waiting classes and expected ends, and the one planned start. Does
//! not know: clocks, processes, dependencies between jobs, or who launches a step. Invariant: the
//! rules P1 to P10 of the design; in short, nothing is oversubscribed, gangs get whole idle nodes of
//! one allocation, nothing that may start waits, and a wide job is not starved.
//!
//! The one exception is made by the user: on nodes with *slots* (`max_parallel_jobs` of an action) each
//! single-node job takes one slot, whatever it asks for of CPUs and memory. GPUs and gangs are as ever.
//!
//! # The order of the queue
//!
//! Priority, highest first; then the workflow's sort method; then the number of the job. Jobs with
//! equal requests form a class and are alike, so one look at a class is a look at all of its jobs.
//!
//! # The planned start
//!
//! This is EASY backfilling (Lifka, 1995): one promise, for the first blocked job in queue order, of
//! any width. The earliest time at which it fits is foreseen from the expected ends of running jobs:
//! start plus declared runtime. A job past its runtime, or without one, is expected to end with its
//! allocation; that is a bound, not a time at which others can still start, so nothing is foreseen
//! from it.
//!
//! *Who holds it.* The promise stays with its job until that job starts, no longer waits, cannot be
//! promised anything any more, or a job of a *higher* priority is blocked. A job of the same
//! priority that comes later respects it, even if the sort method would put it first; otherwise a
//! stream of such jobs could delay the promised one for ever. A higher priority does not respect it.
//! Which of several blocked jobs gets the *next* promise is decided by queue order alone: a sort
//! method is a preference among jobs, and a preferred job that is blocked comes first.
//!
//! *Who may use the nodes.* A job that is certain to be gone before the planned start (now + runtime
//! ≤ planned start) may use the promised nodes. Beside a promised single-node job, any job may use
//! what the node has left at the planned time once the promised request is taken off: it cannot
//! delay the promise, and holding a whole node for one core would idle the rest. A gang takes whole
//! nodes, so nothing is left beside it.
//!
//! *When no time can be foreseen*, because the nodes needed are busy with jobs of unknown end, nodes
//! are held without a time: for a gang those with the earliest ends and then the fewest steps of
//! unknown end, for a single-node job the one that lacks the least. They are kept until the job
//! starts or a time can be foreseen. Jobs of unknown end may not use them (beside a single-node job:
//! only what it does not need, and nothing of what it still lacks), so that they drain. Jobs with a
//! declared runtime may, up to the end of the allocation: their end is known, and as soon as the
//! last step of unknown end is over, a time is foreseen that they must respect. So the nodes work
//! until then (P4) and the promised job still starts within the longest declared runtime after that
//! (P5). The planned start then shows the only bound there is: the end of the allocation, or the
//! end of time.
//!
//! *Who gets none.* A job for which the usable nodes have no room even when idle, or whose
//! allocations all end too early for the foreseen time, is promised nothing and blocks nobody. After
//! a few jobs of the second kind a decision does without a promise, which bounds its cost.
//!
//! # What a decision costs
//!
//! A class that was looked at in vain is not looked at again until something is freed that it could
//! use; the queue finds such classes without visiting the others. A start is foreseen exactly while
//! the end of some step is known on two thousand nodes or fewer; in larger fleets a single-node job may be
//! promised a later time than the earliest, in exchange for a bounded cost. Nodes are found by what they have
//! free, idle nodes as runs of neighbours. The parts that grow faster than logarithmically are the
//! forecast for a gang (linear in the nodes, made only when an end or a change concerns it) and the
//! number of allocations with different ends.

mod amounts;
mod explain;
mod feasibility;
mod filing;
mod fleet;
mod holding;
mod idtable;
mod index;
mod line;
mod node;
mod pass;
mod promise;
mod queue;
mod runs;
mod search;
mod whole_node;

#[cfg(test)]
mod tests;

pub use feasibility::feasibility;
pub use whole_node::{Policy, WholeNodePlacer};
