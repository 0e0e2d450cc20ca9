//! What a job sees of its surroundings.

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use torc_core::traits::Outcome;
use torc_executors::local::{LocalConfig, LocalExecutor, StartError};

use crate::site::{HOST, Site, Test, node, run, step_node};

pub(crate) const TESTS: &[Test] = &[
    ("the_environment_is_layered", the_environment_is_layered),
    ("a_gang_sees_its_nodes", a_gang_sees_its_nodes),
    ("gpus_are_shown", gpus_are_shown),
    ("no_terminal_and_no_foreign_descriptor", no_terminal_and_no_foreign_descriptor),
    ("the_mask_for_new_files_is_the_configured_one", the_mask_for_new_files),
    ("a_pinned_job_has_its_own_cpus_only", a_pinned_job_has_its_own_cpus_only),
    ("pretended_cpus_cannot_be_pinned_to", pretended_cpus_cannot_be_pinned_to),
];

const SUCCESS: Outcome = Outcome::Exited { code: 0 };

fn the_environment_is_layered() {
    run(async {
        let mut site = Site::with(|config| {
            config.base_env.push(("BASE".into(), "base".into()));
            config.base_env.push(("BOTH".into(), "base".into()));
        });
        let mut step =
            site.step(1, "echo $BASE $BOTH; pwd; cat $TORC_HOSTFILE; echo $TORC_NODELIST");
        step.env.insert("BOTH".into(), "step".into());
        assert_eq!(site.outcome(step).await, SUCCESS);
        let folder = std::fs::canonicalize(site.path("")).expect("exists");
        let expected = format!("base step\n{}\n{HOST}\n{HOST}\n", folder.display());
        assert_eq!(site.read("out"), expected);
    });
}

fn a_gang_sees_its_nodes() {
    run(async {
        let mut site = Site::with(|config| {
            config.nodes = vec![node("node1", &[0]), node("node2", &[1])];
        });
        let script = "cat $TORC_HOSTFILE; echo $TORC_HOSTFILE > where; \
                      echo $TORC_NODELIST $TORC_NUM_NODES $TORC_CPUS_PER_NODE";
        let mut step = site.step(1, script);
        step.nodes = vec![step_node("node1", &[0]), step_node("node2", &[1, 2])];
        assert_eq!(site.outcome(step).await, SUCCESS);
        assert_eq!(site.read("out"), "node1\nnode2\nnode1,node2 2 1,2\n");
        let hostfile = site.read("where");
        assert!(!std::path::Path::new(hostfile.trim()).exists(), "{hostfile} is left");
    });
}

fn gpus_are_shown() {
    run(async {
        let mut site = Site::new();
        let script = "echo $CUDA_VISIBLE_DEVICES $HIP_VISIBLE_DEVICES $ROCR_VISIBLE_DEVICES";
        let mut step = site.step(1, script);
        step.nodes[0].gpus = ["3".into(), "5".into()].into();
        assert_eq!(site.outcome(step).await, SUCCESS);
        assert_eq!(site.read("out"), "3,5 3,5 3,5\n");
    });
}

fn no_terminal_and_no_foreign_descriptor() {
    run(async {
        let mut site = Site::new();
        let script = "(exec 3< /dev/tty) 2> /dev/null && echo a terminal; \
                      ls -l /proc/$$/fd | grep -v ' \\(0\\|1\\|2\\|255\\) -> ' | grep -- '->'; \
                      read -r line && echo input; cut -d' ' -f5,6 /proc/$$/stat; echo $$; \
                      grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -s '\\t0' ' '";
        let step = site.step(1, script);
        assert_eq!(site.outcome(step).await, SUCCESS);
        let keeper = site.executor.keeper_pid();
        let output = site.read("out");
        let lines: Vec<&str> = output.lines().map(str::trim_end).collect();
        let [ids, own, "SigBlk:", "SigIgn:"] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!(*ids, format!("{own} {keeper}"), "its own group in the keeper's session");
    });
}

fn the_mask_for_new_files() {
    run(async {
        let mut site = Site::with(|config| config.umask = Some(0o027));
        let step = site.step(1, "umask; touch made; stat -c %a made out");
        assert_eq!(site.outcome(step).await, SUCCESS);
        assert_eq!(site.read("out"), "0027\n640\n640\n");
    });
}

fn a_pinned_job_has_its_own_cpus_only() {
    run(async {
        let own = sched_getaffinity(Pid::from_raw(0)).expect("an affinity");
        let mut cores = (0..CpuSet::count()).filter(|&core| own.is_set(core) == Ok(true));
        let last = cores.next_back().and_then(|core| u32::try_from(core).ok()).expect("a CPU");
        let mut site = Site::with(|config| {
            config.pin = true;
            config.nodes = vec![node(HOST, &[last])];
        });
        let script = "grep Cpus_allowed_list /proc/self/status | cut -f2";
        let mut step = site.step(1, script);
        step.nodes = vec![step_node(HOST, &[last])];
        assert_eq!(site.outcome(step).await, SUCCESS);
        assert_eq!(site.read("out"), format!("{last}\n"));
        let mut step = site.step(2, "nproc");
        step.nodes = vec![step_node(HOST, &[])];
        assert_eq!(site.outcome(step).await, SUCCESS);
        let all = (0..CpuSet::count()).filter(|&core| own.is_set(core) == Ok(true)).count();
        assert_eq!(site.read("out"), format!("{all}\n"), "the keeper is not pinned itself");
    });
}

fn pretended_cpus_cannot_be_pinned_to() {
    run(async {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nodes = vec![node("node1", &[1023])];
        let mut config = LocalConfig::new(nodes, folder.path().to_owned(), Vec::new());
        config.pin = true;
        let error = LocalExecutor::start(config, std::sync::Arc::new(|_| {}));
        let error = error.expect_err("there is no such CPU");
        assert!(matches!(error, StartError::VirtualCpu { core: 1023, .. }), "{error}");
    });
}
