//! Starting steps: on which nodes, with what, how many at once.

use std::collections::HashMap;

use torc_core::traits::{Executor, LaunchStage, Outcome, StepEvent, StepState};

use crate::site::{Site, Test, Where, run, step_id};

pub(crate) const TESTS: &[Test] = &[
    Test::new("nodes_have_what_slurm_granted", nodes_have_what_slurm_granted),
    Test { place: Where::Threads, ..Test::new("threads_of_a_core_go_together", threads) },
    Test::new("steps_run_where_they_were_placed", steps_run_where_they_were_placed),
    Test::new("output_goes_to_its_files", output_goes_to_its_files),
    Test::new("what_cannot_start_says_why", what_cannot_start_says_why),
    Test::new("many_steps_all_end_once", many_steps_all_end_once),
    Test::new("a_full_node_is_shared_out_to_the_last_core", a_full_node_is_shared_out),
    Test::new("a_launch_in_doubt_may_be_repeated", a_launch_in_doubt_may_be_repeated),
];

fn nodes_have_what_slurm_granted() {
    run(async {
        let site = Site::new().await;
        let names = std::env::var("SLURM_JOB_NODELIST").expect("inside");
        assert_eq!(site.nodes.len(), 2, "{names}");
        for node in &site.nodes {
            assert_eq!((node.cpus(), node.threads_per_core, node.gpu_count()), (8, 1, 2));
            assert_eq!(node.memory, 32 << 30);
        }
        let end = site.executor.allocation().observe_end().await.expect("an answer");
        assert!(end.is_some() && end == site.executor.ends_at());
        let left = end.expect("ends").0 - torc_executors::clock::now().0;
        assert!((400_000..=600_000).contains(&left), "{left} ms are left of ten minutes");
    });
}

fn threads() {
    run(async {
        let mut site = Site::new().await;
        let node = &site.nodes[0];
        assert_eq!((node.cpus(), node.threads_per_core), (16, 2));
        let mut step = site.step(1, "echo $SLURM_CPUS_ON_NODE $SLURM_CPUS_PER_TASK");
        step.nodes = vec![site.share(0, 4)];
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
        assert_eq!(site.read("out"), "4 4\n");
        // Eight whole cores at once, by way of one another.
        all_at_once(&mut site, 8, 2).await;
    });
}

/// Runs steps on the first node that end only when all of them run.
async fn all_at_once(site: &mut Site, count: u32, cpus: u32) {
    for job in 1..=count {
        let script = format!(
            "touch together{job}; until [ $(ls together* | wc -l) = {count} ]; do sleep 0.1; done"
        );
        let mut step = site.step(100 + job, &script);
        step.nodes = vec![site.share(0, cpus)];
        (step.stdio.stdout, step.stdio.stderr) = (None, None);
        site.launch(step).await;
    }
    for _ in 0..count {
        assert_eq!(site.end().await.1, Outcome::Exited { code: 0 });
    }
}

fn a_full_node_is_shared_out() {
    run(async {
        let mut site = Site::new().await;
        all_at_once(&mut site, 8, 1).await;
    });
}

fn steps_run_where_they_were_placed() {
    run(async {
        let mut site = Site::new().await;
        for (job, node) in [(1, 0), (2, 1)] {
            let mut step = site.step(job, "echo $SLURMD_NODENAME $SLURM_CPUS_ON_NODE; exit 3");
            step.nodes = vec![site.share(node, 3)];
            assert_eq!(site.outcome(step).await, Outcome::Exited { code: 3 });
            let expected = format!("{} 3\n", site.nodes[node].name);
            assert_eq!(site.read("out"), expected);
        }
    });
}

fn output_goes_to_its_files() {
    run(async {
        let mut site = Site::new().await;
        std::fs::write(site.path("out"), "from an earlier attempt, and long").expect("written");
        let step = site.step(1, "echo to out; echo to err >&2; cat; echo again");
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
        assert_eq!(site.read("out"), "to out\nagain\n");
        assert_eq!(site.read("err"), "to err\n");
        let mut step = site.step(2, "for i in 1 2 3 4; do echo $i; echo e$i >&2; done");
        std::fs::create_dir(site.path("100%t")).expect("a folder");
        step.stdio.stdout = Some(site.text_path("100%t/%j.log").into());
        step.stdio.stderr = step.stdio.stdout.clone();
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
        assert_eq!(site.read("100%t/%j.log"), "1\ne1\n2\ne2\n3\ne3\n4\ne4\n");
        let mut step = site.step(3, "echo nowhere; echo nowhere >&2");
        (step.stdio.stdout, step.stdio.stderr) = (None, None);
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
        for (script, is_kept) in [("echo x; exit 1", true), ("echo x", false)] {
            let mut step = site.step(4, script);
            step.stdio.delete_on_success = true;
            site.outcome(step).await;
            assert_eq!((site.path("out").exists(), site.path("err").exists()), (is_kept, is_kept));
        }
    });
}

fn what_cannot_start_says_why() {
    run(async {
        let mut site = Site::new().await;
        let mut check = Vec::new();
        let mut step = site.step(1, "true");
        step.working_dir = "/no/such/folder".into();
        check.push((step, LaunchStage::WorkingDir, "/no/such/folder"));
        let mut step = site.step(2, "true");
        step.stdio.stdout = Some("/no/such/folder/out".into());
        check.push((step, LaunchStage::Output, "/no/such/folder/out"));
        let mut step = site.step(3, "true");
        step.argv.clear();
        check.push((step, LaunchStage::Prepare, "empty"));
        let mut step = site.step(4, "true");
        step.nodes = vec![site.share(0, 99)];
        check.push((step, LaunchStage::Prepare, "More processors requested"));
        let mut step = site.step(5, "true");
        step.argv[2] = "x".repeat(10_000_000);
        check.push((step, LaunchStage::Execute, "128 KiB"));
        let mut step = site.gang(6, 3, "true");
        step.layout.cpus_per_node = 8;
        check.push((step, LaunchStage::Prepare, "3 ranks"));
        for (step, expected, word) in check {
            let Outcome::LaunchFailed { stage, reason } = site.outcome(step).await else {
                panic!("it was launched, {word} or not");
            };
            assert_eq!(stage, expected, "{reason}");
            assert!(reason.contains(word), "{reason} does not say {word}");
        }
    });
}

fn many_steps_all_end_once() {
    run(async {
        let mut site = Site::with(|config| config.max_parallel_steps = 10).await;
        let count = 60;
        for job in 1..=count {
            let mut step = site.step(job, &format!("exit {job}"));
            step.nodes = vec![site.share(job as usize % 2, 1)];
            (step.stdio.stdout, step.stdio.stderr) = (None, None);
            site.launch(step).await;
        }
        let mut started = HashMap::new();
        let mut ended = HashMap::new();
        while ended.len() < count as usize {
            match site.event().await {
                StepEvent::Started { step, at } => {
                    assert_eq!(started.insert(step, at), None, "{step} started twice");
                }
                StepEvent::Ended { step, at, outcome, .. } => {
                    let code = i32::try_from(step.job.0).expect("small");
                    assert_eq!(outcome, Outcome::Exited { code });
                    assert!(started[&step] <= at, "{step} ended before it started");
                    assert_eq!(ended.insert(step, at), None, "{step} ended twice");
                }
                StepEvent::NodeChanged { .. } => unreachable!("not about a step"),
            }
        }
        let running_at = |time| {
            started.values().filter(|&&at| at <= time).count()
                - ended.values().filter(|&&at| at <= time).count()
        };
        let most = started.values().map(|&time| running_at(time)).max();
        assert!(most <= Some(10), "{most:?} at once");
        assert_eq!(site.changes, []);
    });
}

fn a_launch_in_doubt_may_be_repeated() {
    run(async {
        let mut site = Site::new().await;
        let step = site.step(1, "echo once >> count; until [ -e go ]; do sleep 0.1; done");
        site.launch(step.clone()).await;
        site.launch(step).await;
        let states = site.executor.reconcile(&[step_id(1), step_id(2)]).await.expect("known");
        assert_eq!(states, [StepState::Running, StepState::Unknown]);
        site.started(1).await;
        std::fs::write(site.path("go"), "").expect("written");
        assert_eq!(site.end().await.1, Outcome::Exited { code: 0 });
        assert_eq!(site.read("count"), "once\n");
        let states = site.executor.reconcile(&[step_id(1)]).await.expect("known");
        assert_eq!(states, [StepState::Unknown]);
    });
}
