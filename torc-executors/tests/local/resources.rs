//! Processor time and memory of jobs.

use torc_core::traits::Outcome;

use crate::site::{Site, Test, run};

pub(crate) const TESTS: &[Test] = &[
    ("processor_time_of_the_whole_tree_is_counted", processor_time),
    ("a_step_over_its_memory_is_ended", over_memory),
    ("the_limit_may_be_off", limit_off),
];

const MIB: u64 = 1 << 20;

/// Holds 100 MiB and waits for ever, or for a short time.
fn holder(wait: &str) -> String {
    format!("python3 -c \"x = bytearray(100 << 20); import time; {wait}\"; exit 0")
}

fn processor_time() {
    run(async {
        let mut site = Site::new();
        let script = "bash -c 'for ((i = 0; i < 300000; i++)); do :; done'; exit 0";
        site.launch(site.step(1, script)).await;
        let (_, outcome, busy) = site.end().await;
        assert_eq!(outcome, Outcome::Exited { code: 0 });
        site.launch(site.step(2, "exit 0")).await;
        let (_, _, idle) = site.end().await;
        assert!(busy.cpu_ms >= 50 && idle.cpu_ms < busy.cpu_ms, "{busy:?} {idle:?}");
    });
}

fn over_memory() {
    run(async {
        let mut site = Site::new();
        let mut step = site.step(1, &holder("time.sleep(1000)"));
        step.limits.memory = Some(40 * MIB);
        site.launch(step).await;
        let (_, outcome, usage) = site.end().await;
        let Outcome::OutOfMemory { used: Some(used) } = outcome else { panic!("{outcome:?}") };
        assert!(used > 100 * MIB && used < 200 * MIB, "{used}");
        assert_eq!(usage.peak_memory, Some(used));
    });
}

fn limit_off() {
    run(async {
        let mut site = Site::with(|config| config.enforce_memory = false);
        // It has to live for more than one measurement.
        let mut step = site.step(1, &holder("time.sleep(2.5)"));
        step.limits.memory = Some(40 * MIB);
        site.launch(step).await;
        let (_, outcome, usage) = site.end().await;
        assert_eq!(outcome, Outcome::Exited { code: 0 });
        assert!(usage.peak_memory > Some(100 * MIB), "{usage:?}");
    });
}
