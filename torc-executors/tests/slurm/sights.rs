//! What a job sees: its environment, its nodes, its GPUs.

use std::collections::HashMap;

use torc_core::traits::Outcome;

use crate::site::{Site, Test, run};

pub(crate) const TESTS: &[Test] = &[
    Test {
        // What sbatch makes of these is in the environment of the executor.
        poison: &[
            "--ntasks=2",
            "--ntasks-per-node=1",
            "--cpus-per-task=8",
            "--distribution=cyclic",
        ],
        ..Test::new("nothing_of_the_allocation_confuses_srun", poisoned)
    },
    Test::new("the_environment_arrives_whole", the_environment_arrives_whole),
    Test::new("gpus_are_slurms_to_show", gpus_are_slurms_to_show),
    Test::new("the_mask_for_new_files_is_the_configured_one", the_mask),
];

/// Variables with which srun would fail, wait for ever, or give something else.
const POISON: [(&str, &str); 14] = [
    ("SLURM_MEM_PER_CPU", "999999"),
    ("SLURM_MEM_PER_NODE", "999999"),
    ("SLURM_TRES_PER_TASK", "cpu:77"),
    ("SLURM_CPU_BIND", "rank,no_such_word"),
    ("SLURM_NTASKS", "77"),
    ("SLURM_NPROCS", "77"),
    ("SLURM_NNODES", "77"),
    ("SLURM_DISTRIBUTION", "no_such_distribution"),
    ("SLURM_EXCLUSIVE", "1"),
    ("SLURM_HINT", "nomultithread"),
    ("SLURM_TIMELIMIT", "1"),
    ("SLURM_GPUS_PER_TASK", "7"),
    ("SRUN_CPUS_PER_TASK", "77"),
    ("SRUN_EXPORT_ENV", "NONE"),
];

/// What `env -0` printed.
fn variables(site: &Site) -> HashMap<String, String> {
    let text = site.read("out");
    let pairs = text.split('\0').filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn check(site: &Site, expected: &[(&str, &str)]) {
    let found = variables(site);
    for (name, value) in expected {
        assert_eq!(found.get(*name).map(String::as_str), Some(*value), "{name}");
    }
}

fn poisoned() {
    run(async {
        let mut site = Site::with(|config| {
            config.base_env.extend(POISON.map(|(name, value)| (name.into(), value.into())));
        })
        .await;
        let mut step = site.step(1, "env -0");
        step.nodes = vec![site.share(1, 3)];
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 }, "{:?}", site.nodes);
        let node = site.nodes[1].name.to_string();
        check(
            &site,
            &[
                ("SLURM_NTASKS", "1"),
                ("SLURM_NPROCS", "1"),
                ("SLURM_CPUS_PER_TASK", "3"),
                ("SLURM_CPUS_ON_NODE", "3"),
                ("SLURM_NNODES", "1"),
                ("SLURM_JOB_NUM_NODES", "1"),
                ("SLURM_JOB_NODELIST", &node),
                ("SLURM_NODELIST", &node),
                ("SLURM_STEP_NODELIST", &node),
                ("SLURM_JOB_CPUS_PER_NODE", "3"),
                ("SLURM_TASKS_PER_NODE", "1"),
            ],
        );
        let found = variables(&site);
        for name in ["SLURM_MEM_PER_CPU", "SLURM_TRES_PER_TASK", "SLURM_HINT", "SLURM_TIMELIMIT"] {
            assert_eq!(found.get(name), None, "{name} reached the job");
        }
        // A job can start steps of its own inside of what it has.
        let step =
            site.step(2, "srun --overlap --ntasks=1 --mem=0 hostname > /dev/null && echo nested");
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
        assert_eq!(site.read("out"), "nested\n");
    });
}

fn the_environment_arrives_whole() {
    run(async {
        let mut site = Site::with(|config| {
            config.base_env.push(("USERS_OWN".into(), "a 'b' \"c\" $d\ne, f=g".into()));
        })
        .await;
        let mut step = site.step(1, "env -0");
        for (name, value) in [
            ("OF_THE_JOB", "x,y=z"),
            ("SLURM_CPU_BIND", "the job's, not srun's"),
            ("SRUN_CPUS_PER_TASK", "5"),
        ] {
            step.env.insert(name.to_owned(), value.to_owned());
        }
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
        let (node, folder) = (site.nodes[0].name.to_string(), site.text_path(""));
        check(
            &site,
            &[
                ("USERS_OWN", "a 'b' \"c\" $d\ne, f=g"),
                ("OF_THE_JOB", "x,y=z"),
                ("SLURM_CPU_BIND", "the job's, not srun's"),
                ("SRUN_CPUS_PER_TASK", "5"),
                ("TORC_NODELIST", &node),
                ("TORC_NUM_NODES", "1"),
                ("TORC_CPUS_PER_NODE", "1"),
                ("PWD", folder.trim_end_matches('/')),
            ],
        );
        let hostfile = variables(&site)["TORC_HOSTFILE"].clone();
        assert_eq!(std::fs::read_to_string(hostfile).expect("is there"), format!("{node}\n"));
    });
}

fn gpus_are_slurms_to_show() {
    run(async {
        let mut site = Site::new().await;
        let script = "echo \"${CUDA_VISIBLE_DEVICES-none} $SLURM_GPUS_ON_NODE\"";
        assert_eq!(site.outcome(site.step(1, script)).await, Outcome::Exited { code: 0 });
        assert_eq!(site.read("out").trim(), "none");
        // Two at once, one GPU each.
        for job in [2, 3] {
            let script = format!(
                "echo $CUDA_VISIBLE_DEVICES > gpu{job}; until [ -s gpu2 ] && [ -s gpu3 ]; do sleep 0.1; done"
            );
            let mut step = site.step(job, &script);
            step.nodes[0].gpus = Box::new([(job - 2).to_string().into()]);
            site.launch(step).await;
        }
        for _ in 0..2 {
            assert_eq!(site.end().await.1, Outcome::Exited { code: 0 });
        }
        let mut seen = [site.read("gpu2"), site.read("gpu3")];
        seen.sort();
        assert_eq!(seen, ["0\n", "1\n"]);
    });
}

fn the_mask() {
    run(async {
        let mut site = Site::with(|config| config.umask = Some(0o027)).await;
        let step = site.step(1, "umask");
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
        assert_eq!(site.read("out"), "0027\n");
    });
}
