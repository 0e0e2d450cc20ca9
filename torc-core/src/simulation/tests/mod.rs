//! Logs, schedules and figures that can be worked out by hand.

mod stories;
