//! Idle time in words.

use torc_core::idle::{IdleCause, IdleTime};

/// The causes of idle time as parts of `all`, in CPU-milliseconds, those first that there is most of.
pub(crate) fn idle_causes(idle: &IdleTime, all: u64) -> String {
    let mut causes: Vec<(u64, &str)> =
        IdleCause::ALL.iter().map(|cause| (idle.of(*cause), cause.words())).collect();
    // What would be shown as nothing is left out.
    causes.retain(|(time, _)| *time > 0 && time.saturating_mul(2_000) >= all);
    causes.sort_unstable_by(|one, other| other.cmp(one));
    let words: Vec<String> =
        causes.iter().map(|(time, cause)| format!("{cause} {}", percent(*time, all))).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

/// What was idle of all CPU time, in CPU-milliseconds: "12.5 % idle: tail 12.5 %".
pub(crate) fn idle_part(causes: &IdleTime, all: u64) -> String {
    let idle = causes.sum();
    if idle.saturating_mul(2_000) < all {
        return "nothing was idle".to_owned();
    }
    format!("{} idle: {}", percent(idle, all), idle_causes(causes, all))
}

/// A part of the whole: "12.5 %".
#[expect(clippy::cast_precision_loss, reason = "shown to one decimal")]
pub(crate) fn percent(part: u64, all: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / all.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_by_their_weight() {
        let idle = IdleTime { tail: 2_500, held: 5_000, draining: 4, ..IdleTime::default() };
        let words = idle_causes(&idle, 10_000);
        assert_eq!(words, "held for a planned start 50.0 %, tail 25.0 %");
        assert_eq!(idle_causes(&IdleTime::default(), 0), "nothing");
    }
}
