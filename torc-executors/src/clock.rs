//! The one place that asks what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use torc_core::time::Timestamp;

/// A process that wakes up so late has not been given time to run, as in an allocation that was suspended.
pub const STOOD_STILL: Duration = Duration::from_secs(3);

/// Now, by the host's clock.
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
