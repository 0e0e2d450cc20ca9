//! How ends are called that come from the job itself.

use torc_core::traits::{Outcome, Step};

use crate::site::{Site, Test, run};

pub(crate) const TESTS: &[Test] = &[
    Test::new("exit_codes_and_signals_are_told", exit_codes_and_signals_are_told),
    Test::new("too_much_memory_is_told", too_much_memory_is_told),
    Test::new("declared_files_must_exist", declared_files_must_exist),
];

fn exit_codes_and_signals_are_told() {
    run(async {
        let mut site = Site::new().await;
        for (script, expected) in [
            ("true", Outcome::Exited { code: 0 }),
            ("exit 3", Outcome::Exited { code: 3 }),
            ("exit 137", Outcome::Exited { code: 137 }),
            ("exit 255", Outcome::Exited { code: 255 }),
            ("kill -9 $$", Outcome::Signaled { signal: 9 }),
            ("kill -TERM $$", Outcome::Signaled { signal: 15 }),
            ("kill -SEGV $$", Outcome::Signaled { signal: 11 }),
            ("exec /no/such/program", Outcome::Exited { code: 127 }),
        ] {
            assert_eq!(site.outcome(site.step(1, script)).await, expected, "{script}");
        }
    });
}

fn too_much_memory_is_told() {
    run(async {
        let mut site = Site::new().await;
        // Held until it is ended: where memory is only sampled, that takes more than a second.
        let greedy = "python3 -c 'import time; x = bytearray(600 << 20); time.sleep(60)'";
        let step = site.step(1, &format!("exec {greedy}"));
        let told = |outcome| matches!(outcome, Outcome::OutOfMemory { .. });
        assert!(told(site.outcome(step).await));
        // The same where a child is killed and its parent goes on.
        let step = site.step(2, &format!("{greedy}; exit 0"));
        assert!(told(site.outcome(step).await));
        let step = site.step(3, "exec python3 -c 'x = bytearray(100 << 20)'");
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
    });
}

fn declared_files_must_exist() {
    run(async {
        let mut site = Site::new().await;
        let absolute = site.text_path("absolute");
        let files = |step: &mut Step| {
            step.expected_files = vec!["relative".into(), absolute.as_str().into()];
        };
        let mut step = site.step(1, "touch relative");
        files(&mut step);
        let missing = Outcome::FilesMissing { files: vec![absolute.as_str().into()] };
        assert_eq!(site.outcome(step).await, missing);
        let mut step = site.step(2, "exit 2");
        files(&mut step);
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 2 });
        let mut step = site.step(3, "touch relative absolute");
        files(&mut step);
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
    });
}
