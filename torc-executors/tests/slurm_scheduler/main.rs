//! Slurm as a source of allocations: the real one, and one that plays the faults that a real one cannot
//! be made to show.

mod cluster;
mod conformance;
mod faults;
mod real;
mod site;
