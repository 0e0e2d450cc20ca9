//! Starting steps: output files, failures to start, many at once.

use std::collections::HashMap;
use std::path::Path;

use torc_core::traits::{
    Executor, ExecutorError, LaunchStage, Outcome, Step, StepEvent, StepState,
};
use torc_executors::local::{LocalConfig, LocalExecutor, StartError};

use crate::site::{Site, Test, run, step_id};

pub(crate) const TESTS: &[Test] = &[
    ("exit_codes_and_signals_are_told", exit_codes_and_signals_are_told),
    ("output_goes_to_its_files", output_goes_to_its_files),
    ("two_streams_share_one_file", two_streams_share_one_file),
    ("output_is_removed_after_success_only", output_is_removed_after_success_only),
    ("a_job_may_close_its_output", a_job_may_close_its_output),
    ("much_output_needs_nobody_to_read_it", much_output_needs_nobody_to_read_it),
    ("a_full_disk_is_the_jobs_business", a_full_disk_is_the_jobs_business),
    ("declared_files_must_exist", declared_files_must_exist),
    ("what_cannot_start_says_why", what_cannot_start_says_why),
    ("many_steps_at_once_all_end_once", many_steps_at_once_all_end_once),
    ("a_launch_in_doubt_may_be_repeated", a_launch_in_doubt_may_be_repeated),
    ("a_program_that_is_no_keeper_is_found_out", a_program_that_is_no_keeper_is_found_out),
];

fn exit_codes_and_signals_are_told() {
    run(async {
        let mut site = Site::new();
        for (script, expected) in [
            ("true", Outcome::Exited { code: 0 }),
            ("exit 3", Outcome::Exited { code: 3 }),
            ("exit 255", Outcome::Exited { code: 255 }),
            ("kill -9 $$", Outcome::Signaled { signal: 9 }),
            ("kill -TERM $$", Outcome::Signaled { signal: 15 }),
            ("kill -40 $$", Outcome::Signaled { signal: 40 }),
        ] {
            assert_eq!(site.outcome(site.step(1, script)).await, expected, "{script}");
        }
    });
}

fn output_goes_to_its_files() {
    run(async {
        let mut site = Site::new();
        std::fs::write(site.path("out"), "from an earlier attempt, and long").expect("written");
        let step = site.step(1, "echo to out; echo to err >&2; cat; echo again");
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
        assert_eq!(
            (site.read("out"), site.read("err")),
            ("to out\nagain\n".into(), "to err\n".into())
        );
        let mut step = site.step(2, "echo nowhere; echo nowhere >&2");
        step.stdio.stdout = None;
        step.stdio.stderr = None;
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
    });
}

fn two_streams_share_one_file() {
    run(async {
        let mut site = Site::new();
        let mut step = site.step(1, "echo 1; echo 2 >&2; bash -c 'echo 3'; echo 4 >&2; echo 5");
        step.stdio.stderr = step.stdio.stdout.clone();
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
        assert_eq!(site.read("out"), "1\n2\n3\n4\n5\n");
    });
}

fn output_is_removed_after_success_only() {
    run(async {
        let mut site = Site::new();
        for (script, is_kept) in [("echo x; exit 1", true), ("echo x", false)] {
            let mut step = site.step(1, script);
            step.stdio.delete_on_success = true;
            site.outcome(step).await;
            assert_eq!(site.path("out").exists(), is_kept, "{script}");
            assert_eq!(site.path("err").exists(), is_kept, "{script}");
        }
    });
}

fn a_job_may_close_its_output() {
    run(async {
        let mut site = Site::new();
        let step = site.step(1, "exec <&- >&- 2>&-; exit 4");
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 4 });
    });
}

fn much_output_needs_nobody_to_read_it() {
    run(async {
        let mut site = Site::new();
        let step = site.step(1, "head -c 30000000 /dev/zero");
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
        let size = std::fs::metadata(site.path("out")).expect("exists").len();
        assert_eq!(size, 30_000_000);
    });
}

fn a_full_disk_is_the_jobs_business() {
    run(async {
        let mut site = Site::new();
        let mut step = site.step(1, "echo x || exit 9");
        step.stdio.stdout = Some("/dev/full".into());
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 9 });
        assert!(site.read("err").contains("No space left"));
    });
}

fn declared_files_must_exist() {
    run(async {
        let mut site = Site::new();
        let absolute = site.text_path("absolute");
        let files = |step: &mut Step| {
            step.expected_files = vec!["relative".into(), absolute.as_str().into()];
        };
        let mut step = site.step(1, "touch relative");
        files(&mut step);
        let missing = Outcome::FilesMissing { files: vec![absolute.as_str().into()] };
        assert_eq!(site.outcome(step).await, missing);
        let mut step = site.step(1, "exit 2");
        files(&mut step);
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 2 });
        let mut step = site.step(1, "touch relative absolute");
        files(&mut step);
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
    });
}

/// Spoils a step, starts it, and checks what it was that failed and that the reason says a word.
async fn check_failure(
    site: &mut Site,
    spoil: impl FnOnce(&mut Step),
    expected: LaunchStage,
    word: &str,
) {
    let mut step = site.step(1, "true");
    spoil(&mut step);
    site.launch(step).await;
    // A failed launch never started.
    let event = site.event().await;
    let StepEvent::Ended { outcome: Outcome::LaunchFailed { stage, reason }, .. } = event else {
        panic!("{event:?} instead of {expected:?}");
    };
    assert_eq!(stage, expected, "{reason}");
    assert!(reason.contains(word), "{reason} does not say {word}");
}

fn what_cannot_start_says_why() {
    run(async {
        let site = &mut Site::new();
        let plain = site.text_path("plain");
        std::fs::write(&plain, "no program").expect("written");
        let (program, pipe) = (plain.clone(), site.text_path("pipe"));
        let _pipe = site.pipe("pipe");
        let text = |text: &str| vec![text.to_owned()];
        let spoil = |step: &mut Step| step.working_dir = "/no/such".into();
        check_failure(site, spoil, LaunchStage::WorkingDir, "/no/such").await;
        let spoil = |step: &mut Step| step.working_dir = plain.into();
        check_failure(site, spoil, LaunchStage::WorkingDir, "not a folder").await;
        let spoil = |step: &mut Step| step.argv = text("no-such-program");
        check_failure(site, spoil, LaunchStage::Execute, "PATH").await;
        let spoil = |step: &mut Step| step.argv = text("./no-such-program");
        check_failure(site, spoil, LaunchStage::Execute, "No such file").await;
        let spoil = |step: &mut Step| step.argv = text(&program);
        check_failure(site, spoil, LaunchStage::Execute, "denied").await;
        let spoil = |step: &mut Step| step.argv[2] = "x".repeat(10_000_000);
        check_failure(site, spoil, LaunchStage::Execute, "128 KiB").await;
        let spoil = |step: &mut Step| step.argv[2] = "a\0b".into();
        check_failure(site, spoil, LaunchStage::Execute, "nul byte").await;
        let spoil = |step: &mut Step| step.argv.clear();
        check_failure(site, spoil, LaunchStage::Prepare, "empty").await;
        let spoil = |step: &mut Step| step.limits.termination_signal = 99;
        check_failure(site, spoil, LaunchStage::Prepare, "99").await;
        let spoil = |step: &mut Step| step.stdio.stdout = Some("/no/such/out".into());
        check_failure(site, spoil, LaunchStage::Output, "/no/such/out").await;
        let spoil = |step: &mut Step| step.stdio.stderr = Some(pipe.into());
        check_failure(site, spoil, LaunchStage::Output, "pipe").await;
    });
}

fn many_steps_at_once_all_end_once() {
    run(async {
        let mut site = Site::new();
        let count = 400;
        for job in 1..=count {
            let mut step = site.step(job, &format!("exit {}", job % 200));
            // More than the socket holds.
            step.env.insert("FILLING".into(), "x".repeat(50_000));
            step.stdio.stdout = None;
            step.stdio.stderr = None;
            site.launch(step).await;
        }
        let mut started = HashMap::new();
        for _ in 0..2 * count {
            match site.event().await {
                StepEvent::Started { step, at } => {
                    assert_eq!(started.insert(step, at), None, "{step} started twice");
                }
                StepEvent::Ended { step, at, outcome, .. } => {
                    let code = i32::try_from(step.job.0 % 200).expect("small");
                    assert_eq!(outcome, Outcome::Exited { code });
                    assert!(started[&step] <= at, "{step} ended before it started");
                }
                StepEvent::NodeChanged { node, .. } => panic!("{node} is this host"),
            }
        }
        assert_eq!(started.len(), count as usize);
    });
}

fn a_launch_in_doubt_may_be_repeated() {
    run(async {
        let mut site = Site::new();
        let pipe = site.pipe("go");
        let step = site.step(1, "echo once >> count; cat go > /dev/null");
        site.launch(step.clone()).await;
        site.launch(step).await;
        let states = site.executor.reconcile(&[step_id(1), step_id(2)]).await.expect("known");
        assert_eq!(states, [StepState::Running, StepState::Unknown]);
        pipe.write("go").await;
        assert_eq!(site.end().await.1, Outcome::Exited { code: 0 });
        assert_eq!(site.read("count"), "once\n");
        let states = site.executor.reconcile(&[step_id(1)]).await.expect("known");
        assert_eq!(states, [StepState::Unknown]);
        let inventory = site.executor.inventory().await.expect("known");
        assert_eq!(inventory.len(), 1);
    });
}

fn a_program_that_is_no_keeper_is_found_out() {
    run(async {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let start = |program: &str, scratch: &Path| {
            let mut config = LocalConfig::new(Vec::new(), scratch.to_owned(), Vec::new());
            config.keeper_program = Some(program.into());
            LocalExecutor::start(config, std::sync::Arc::new(|_| {}))
        };
        let error = start("/bin/echo", folder.path()).expect_err("echo is no keeper");
        assert!(matches!(error, StartError::NoKeeper { .. }), "{error}");
        assert!(error.to_string().contains("run_if_asked"), "{error}");
        let error = start("/no/such/program", folder.path()).expect_err("there is no such program");
        assert!(matches!(error, StartError::Keeper { .. }), "{error}");
        let error = start("/bin/echo", Path::new("/dev/null/x")).expect_err("no folder");
        assert!(matches!(error, StartError::Scratch { .. }), "{error}");
        assert!(matches!(ExecutorError::from(error), ExecutorError::NotStarted(_)));
    });
}
