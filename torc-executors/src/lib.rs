//! torc-executors
