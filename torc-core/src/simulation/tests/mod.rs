//! Logs, schedules and figures that can be worked out by hand, and whole workloads that cannot.

mod stories;
mod workloads;
