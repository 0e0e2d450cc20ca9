//! Processes that a job leaves behind end with it, and only with it.

use torc_core::traits::Outcome;

use crate::site::{Site, Test, run, step_id};

pub(crate) const TESTS: &[Test] = &[
    ("nothing_of_a_job_is_left_when_it_has_ended", nothing_is_left),
    ("a_neighbours_daemon_lives_on", a_neighbours_daemon_lives_on),
    ("a_daemon_without_a_trace_ends_with_its_last_suspect", without_a_trace),
];

fn nothing_is_left() {
    run(async {
        let mut site = Site::new();
        let sleeper = "echo ready >&9; exec sleep 1000";
        for leave in [
            // In the group; ignoring hang-ups and terminations.
            format!("bash -c '{sleeper}' &"),
            format!("trap '' HUP TERM; bash -c '{sleeper}' &"),
            // In a session of its own; the same as a daemon; without its environment; renamed.
            format!("setsid bash -c '{sleeper}' &"),
            format!("(setsid bash -c '{sleeper}' &)"),
            format!("(setsid env -i bash -c '{sleeper}' &)"),
            // A tree whose root ends first.
            format!(
                "(setsid bash -c '(setsid bash -c \"{sleeper}\" & sleep 1000) & sleep 1000' &)"
            ),
        ] {
            let ready = site.pipe("ready");
            let go = site.pipe("go");
            let script = format!("exec 9> ready; {leave}\n cat go > /dev/null; exit 0");
            site.launch(site.step(1, &script)).await;
            let reader = ready.lines(1).await;
            go.write("go").await;
            assert_eq!(site.end().await.1, Outcome::Exited { code: 0 }, "{leave}");
            reader.assert_all_gone();
            std::fs::remove_file(ready.path()).expect("removed");
            std::fs::remove_file(go.path()).expect("removed");
        }
    });
}

fn a_neighbours_daemon_lives_on() {
    run(async {
        let mut site = Site::new();
        let (ready, go, ask) = (site.pipe("ready"), site.pipe("go"), site.pipe("ask"));
        let daemon = "exec 9> ready; echo ready >&9; cat ask >&9; echo asked >&9; sleep 1000";
        let script = format!("(setsid bash -c '{daemon}' &); cat go > /dev/null; exit 0");
        site.launch(site.step(1, &script)).await;
        let mut reader = ready.lines(1).await;
        assert_eq!(
            site.outcome(site.step(2, "(setsid sleep 1000 &); exit 3")).await,
            Outcome::Exited { code: 3 }
        );
        ask.write("still there?\n").await;
        assert_eq!((reader.line(), reader.line()), ("still there?\n".into(), "asked\n".into()));
        go.write("go").await;
        let (step, outcome, _) = site.end().await;
        assert_eq!((step, outcome), (step_id(1), Outcome::Exited { code: 0 }));
        reader.assert_all_gone();
    });
}

fn without_a_trace() {
    run(async {
        let mut site = Site::new();
        let (ready, go) = (site.pipe("ready"), site.pipe("go"));
        // Both run when the second one's end makes the keeper look for orphans.
        site.launch(site.step(1, "cat go > /dev/null; exit 0")).await;
        let daemon = "exec 9> ready; echo ready >&9; sleep 1000";
        let script = format!("(setsid env -i bash -c \"{daemon}\" &); exec 8< go; exit 3");
        site.launch(site.step(2, &script)).await;
        let reader = ready.lines(1).await;
        go.write("go").await;
        assert!(matches!(site.end().await.1, Outcome::Exited { .. }));
        assert!(matches!(site.end().await.1, Outcome::Exited { .. }));
        reader.all_gone().await;
    });
}
