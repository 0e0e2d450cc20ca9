//! The srun launcher: from a step to the srun that starts it. Pure.
//!
//! Every option that says what the step is given is on the command line, whatever the environment or
//! the site's defaults are: nodes, tasks, CPUs, memory, GPUs. The options are those of srun(1) of Slurm
//! 22.05 and newer.
//!
//! Once an allocation has lost a node, Slurm does not give back the cores of the steps that ran at that
//! time (slurmctld logs "unable to update job's core use information due to job resizing"), and steps for
//! those cores would wait for ever. From then on Slurm's books of cores are passed over: steps overlap,
//! each is shown its whole node, and torc's own books keep them apart.

use std::sync::Arc;
use std::time::Duration;

use torc_core::resources::NodeInventory;
use torc_core::traits::{LaunchPlan, Launcher, LauncherError, StdioPaths, Step};

use super::version::Dialect;
use super::{hostlist, task};

const NAME: &str = "srun";

const MIB: u64 = 1 << 20;

/// Starts steps with srun, inside an allocation.
#[derive(Clone, Debug)]
pub struct SrunLauncher {
    /// The srun to execute.
    pub program: String,
    /// The release's habits.
    pub dialect: Dialect,
    /// When Slurm is to end the step, if nobody has ended it by then. Rounded up to minutes.
    pub time_limit: Option<Duration>,
    /// What the allocation has on its nodes, once it has lost one: steps then share their nodes whole.
    pub shared: Option<Arc<[NodeInventory]>>,
}

impl Launcher for SrunLauncher {
    fn name(&self) -> &str {
        NAME
    }

    fn plan(&self, step: &Step, _: &str) -> Result<LaunchPlan, LauncherError> {
        if step.argv.is_empty() {
            return Err(unsupported(
                "there is no program to execute: the argument vector is empty",
            ));
        }
        let whole = self.whole_node(step);
        let mut argv = vec![self.program.clone(), "-v".to_owned()];
        argv.extend(place(step, whole)?);
        argv.extend(self.shared.is_some().then(|| "--overlap".to_owned()));
        argv.extend(stdio(&step.stdio)?);
        argv.extend([
            format!("--job-name={}", step.id),
            "--chdir=/".to_owned(),
            "--export=ALL".to_owned(),
            format!("--mpi={}", step.layout.mpi.as_deref().unwrap_or("none")),
        ]);
        argv.extend(step.layout.cpu_bind.as_deref().map(|bind| format!("--cpu-bind={bind}")));
        argv.extend(self.time_limit.map(|limit| format!("--time={}", minutes(limit))));
        if step.nodes.len() > 1 && self.dialect.steps_have_node_failures() {
            argv.push("--oom-kill-step=1".to_owned());
        }
        argv.extend(task::argv(step, whole));
        Ok(LaunchPlan { argv, ..LaunchPlan::default() })
    }
}

impl SrunLauncher {
    /// All that the allocation has on the node of a step on one node, if that is shared.
    fn whole_node(&self, step: &Step) -> Option<&NodeInventory> {
        let [own] = step.nodes.as_slice() else { return None };
        self.shared.as_ref()?.iter().find(|node| node.name == own.name)
    }
}

fn unsupported(reason: impl Into<String>) -> LauncherError {
    LauncherError::Unsupported { launcher: NAME.to_owned(), reason: reason.into() }
}

/// Where the step runs, and what it is given there; on a shared node all but memory.
fn place(step: &Step, whole: Option<&NodeInventory>) -> Result<Vec<String>, LauncherError> {
    let names: Vec<&str> = step.nodes.iter().map(|node| &*node.name).collect();
    let mut options =
        vec![format!("--nodelist={}", hostlist::compress(&names)), "--exact".to_owned()];
    let own = step.nodes.iter().map(|node| node.gpus.len()).min().unwrap_or_default();
    let gpus = whole.filter(|_| own > 0).map_or(own, |node| node.gpus.len());
    match step.nodes.as_slice() {
        [] => return Err(unsupported("the step has no nodes")),
        [node] => options.extend([
            "--nodes=1".to_owned(),
            "--ntasks=1".to_owned(),
            format!(
                "--cpus-per-task={}",
                whole.map_or(node.cores.len(), |node| node.cores.len()).max(1)
            ),
            format!("--mem={}M", megabytes(node.memory, step.limits.memory)),
        ]),
        nodes => {
            let (ranks, cpus) = (step.layout.ntasks_per_node.max(1), step.layout.cpus_per_node);
            if cpus == 0 || !cpus.is_multiple_of(ranks) {
                return Err(unsupported(format!(
                    "{cpus} CPUs on each node cannot be shared equally by {ranks} ranks; make num_cpus \
                     a multiple of ntasks_per_node"
                )));
            }
            options.extend([
                format!("--nodes={}", nodes.len()),
                format!("--ntasks={}", nodes.len() as u64 * u64::from(ranks)),
                format!("--ntasks-per-node={ranks}"),
                format!("--cpus-per-task={}", cpus / ranks),
                // All that the allocation has on each node.
                "--mem=0".to_owned(),
                "--distribution=block".to_owned(),
                "--kill-on-bad-exit=1".to_owned(),
                // Ranks may end at different times.
                "--wait=0".to_owned(),
            ]);
        }
    }
    // A step that asks for no GPU would hold all of its nodes' GPUs.
    options.push(match gpus {
        0 => "--gres=none".to_owned(),
        count => format!("--gpus-per-node={count}"),
    });
    Ok(options)
}

/// What a step asks for with `--mem`. What the job asked for is rounded up; a share of the node's
/// memory is rounded down, so that all shares together fit. Never 0, which would mean everything.
fn megabytes(held: u64, asked: Option<u64>) -> u64 {
    let megabytes = match asked {
        Some(_) => held.div_ceil(MIB),
        None => held / MIB,
    };
    megabytes.max(1)
}

fn minutes(limit: Duration) -> u64 {
    limit.as_secs().div_ceil(60).max(1)
}

/// The files are there and empty: srun appends to them.
fn stdio(paths: &StdioPaths) -> Result<[String; 4], LauncherError> {
    let file = |path: &Option<Box<str>>| path.as_deref().map_or(Ok("none".to_owned()), literal);
    Ok([
        "--input=none".to_owned(),
        format!("--output={}", file(&paths.stdout)?),
        format!("--error={}", file(&paths.stderr)?),
        "--open-mode=append".to_owned(),
    ])
}

/// A path in which Slurm replaces nothing: a backslash anywhere turns off the meaning of `%`, and all
/// backslashes are dropped (srun(1), IO Redirection).
fn literal(path: &str) -> Result<String, LauncherError> {
    if path.contains('\\') {
        return Err(unsupported(format!(
            "Slurm cannot write to the output file {path}, because it drops backslashes from its name; \
             choose an output folder without backslashes in its path"
        )));
    }
    Ok(match path.strip_prefix('/') {
        Some(rest) if rest.contains('%') => format!("/\\{rest}"),
        _ => path.to_owned(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use insta::assert_snapshot;
    use torc_core::ids::{AllocationId, AttemptId, JobId, RunId, StepId, WorkflowId};
    use torc_core::traits::{RankLayout, StepLimits, StepNode};

    use super::super::version::Version;
    use super::*;

    fn node(name: &str, cores: u32, gpus: &[&str], memory: u64) -> StepNode {
        let gpus = gpus.iter().map(|&gpu| gpu.into()).collect();
        StepNode { name: name.into(), cores: (0..cores).collect(), gpus, memory }
    }

    /// A step on node3: 4 CPUs, 1 GiB.
    pub(crate) fn single() -> Step {
        Step {
            id: StepId {
                workflow: WorkflowId(1),
                job: JobId(2),
                run: RunId(1),
                attempt: AttemptId::FIRST,
            },
            job_name: "a job".into(),
            argv: ["bash", "-c", "echo 'a b'"].map(str::to_owned).to_vec(),
            env: BTreeMap::from([("TORC_JOB_ID".to_owned(), "2".to_owned())]),
            working_dir: "/home/me/a b".into(),
            stdio: StdioPaths {
                stdout: Some("/out/job_wf1_j2_r1_a1.o".into()),
                stderr: Some("/out/job_wf1_j2_r1_a1.e".into()),
                delete_on_success: false,
            },
            allocation: AllocationId(1),
            nodes: vec![node("node3", 4, &[], 1 << 30)],
            layout: RankLayout {
                ntasks_per_node: 1,
                cpus_per_node: 4,
                mpi: None,
                cpu_bind: Some("none".into()),
            },
            limits: StepLimits {
                memory: Some(1 << 30),
                runtime: None,
                termination_signal: 15,
                termination_lead: Duration::from_secs(30),
            },
            expected_files: Vec::new(),
        }
    }

    /// A gang on node2 to node4: 2 ranks on each, 6 CPUs.
    pub(crate) fn gang() -> Step {
        let nodes = ["node2", "node3", "node4"];
        Step {
            nodes: nodes.iter().map(|name| node(name, 8, &["0", "1"], 32 << 30)).collect(),
            layout: RankLayout {
                ntasks_per_node: 2,
                cpus_per_node: 6,
                mpi: Some("pmi2".into()),
                cpu_bind: None,
            },
            ..single()
        }
    }

    fn launcher(release: &str) -> SrunLauncher {
        let version = Version::parse(&format!("slurm {release}")).expect("a release");
        let dialect = Dialect::of(version).expect("is new enough");
        SrunLauncher { program: "/usr/bin/srun".into(), dialect, time_limit: None, shared: None }
    }

    fn options(launcher: &SrunLauncher, step: &Step) -> Vec<String> {
        let mut argv = launcher.plan(step, "/files").expect("can be launched").argv;
        let end = argv.iter().position(|word| word == "/bin/sh").expect("a task");
        argv.truncate(end);
        argv
    }

    fn option(step: &Step, name: &str) -> Option<String> {
        let prefix = format!("--{name}=");
        let options = options(&launcher("22.05.8"), step);
        options.iter().find_map(|word| Some(word.strip_prefix(&prefix)?.to_owned()))
    }

    #[test]
    fn a_step_on_one_node() {
        let plan = launcher("22.05.8").plan(&single(), "/files").expect("can be launched");
        assert_snapshot!(plan.argv.join("\n"), @r#"
        /usr/bin/srun
        -v
        --nodelist=node3
        --exact
        --nodes=1
        --ntasks=1
        --cpus-per-task=4
        --mem=1024M
        --gres=none
        --input=none
        --output=/out/job_wf1_j2_r1_a1.o
        --error=/out/job_wf1_j2_r1_a1.e
        --open-mode=append
        --job-name=wf1_j2_r1_a1
        --chdir=/
        --export=ALL
        --mpi=none
        --cpu-bind=none
        /bin/sh
        -c
        cd -- "$1" || exit 126
        shift
        while [ "$1" != -- ]; do export "$1"; shift; done
        shift
        exec "$@"
        torc
        /home/me/a b
        SLURM_JOB_CPUS_PER_NODE=4
        SLURM_JOB_CPUS_PER_NODE_PACK_GROUP_0=4
        SLURM_JOB_NODELIST=node3
        SLURM_JOB_NUM_NODES=1
        SLURM_NNODES=1
        SLURM_NODELIST=node3
        SRUN_DEBUG=3
        --
        bash
        -c
        echo 'a b'
        "#);
    }

    #[test]
    fn a_gang() {
        let mut launcher = launcher("22.05.8");
        launcher.time_limit = Some(Duration::from_secs(61));
        assert_snapshot!(options(&launcher, &gang()).join("\n"), @"
        /usr/bin/srun
        -v
        --nodelist=node[2-4]
        --exact
        --nodes=3
        --ntasks=6
        --ntasks-per-node=2
        --cpus-per-task=3
        --mem=0
        --distribution=block
        --kill-on-bad-exit=1
        --wait=0
        --gpus-per-node=2
        --input=none
        --output=/out/job_wf1_j2_r1_a1.o
        --error=/out/job_wf1_j2_r1_a1.e
        --open-mode=append
        --job-name=wf1_j2_r1_a1
        --chdir=/
        --export=ALL
        --mpi=pmi2
        --time=2
        ");
    }

    #[test]
    fn only_newer_releases_are_told_what_to_do_out_of_memory() {
        let has = |release: &str, step: &Step| {
            options(&launcher(release), step).contains(&"--oom-kill-step=1".to_owned())
        };
        assert!(!has("22.05.8", &gang()) && !has("24.05.1", &gang()));
        assert!(has("24.11.0", &gang()) && has("26.05.0", &gang()));
        assert!(!has("26.05.0", &single()));
    }

    #[test]
    fn memory_is_rounded_so_that_everybody_gets_what_is_theirs() {
        let check = |held: u64, asked: Option<u64>, expected: &str| {
            let mut step = single();
            (step.nodes[0].memory, step.limits.memory) = (held, asked);
            assert_eq!(option(&step, "mem").as_deref(), Some(expected), "{held} {asked:?}");
        };
        check(3 * MIB, Some(3 * MIB), "3M");
        check(3 * MIB + 1, Some(3 * MIB + 1), "4M");
        check(1, Some(1), "1M");
        check(3 * MIB + 1, None, "3M");
        check(1000, None, "1M");
        check(0, None, "1M");
        assert_eq!(option(&gang(), "mem").as_deref(), Some("0"));
    }

    #[test]
    fn gpus_are_named_or_refused() {
        let mut step = single();
        step.nodes[0] = node("node1", 1, &["0", "1"], 0);
        assert_eq!(option(&step, "gpus-per-node").as_deref(), Some("2"));
        assert_eq!(option(&step, "gres"), None);
        let mut step = gang();
        step.nodes[1].gpus = Box::default();
        assert_eq!(option(&step, "gres").as_deref(), Some("none"));
    }

    #[test]
    fn ranks_must_share_cpus_equally() {
        let mut step = gang();
        step.layout.ntasks_per_node = 4;
        let error = launcher("22.05.8").plan(&step, "/files").expect_err("6 CPUs for 4 ranks");
        assert_snapshot!(error, @"launcher `srun` cannot start this step: 6 CPUs on each node cannot be shared equally by 4 ranks; make num_cpus a multiple of ntasks_per_node");
        step.layout.ntasks_per_node = 3;
        assert_eq!(option(&step, "cpus-per-task").as_deref(), Some("2"));
        assert_eq!(option(&step, "ntasks").as_deref(), Some("9"));
    }

    #[test]
    fn output_goes_where_it_is_said() {
        let check = |out: Option<&str>, expected: &str| {
            let mut step = single();
            step.stdio.stdout = out.map(Box::from);
            assert_eq!(option(&step, "output").as_deref(), Some(expected));
        };
        check(None, "none");
        check(Some("/a/50%/x%j.o"), "/\\a/50%/x%j.o");
        check(Some("/a/b c.o"), "/a/b c.o");
        let mut step = single();
        step.stdio.stdout = Some("/a\\b/c".into());
        let error = launcher("22.05.8").plan(&step, "/files").expect_err("a backslash");
        assert_snapshot!(error, @r"launcher `srun` cannot start this step: Slurm cannot write to the output file /a\b/c, because it drops backslashes from its name; choose an output folder without backslashes in its path");
    }

    #[test]
    fn a_node_is_shared_whole_once_another_was_lost() {
        let mut launcher = launcher("22.05.8");
        let whole = NodeInventory {
            name: "node3".into(),
            cores: (0..8).collect(),
            threads_per_core: 1,
            slots: None,
            memory: 32 << 30,
            gpus: ["0", "1", "2"].map(Box::from).into(),
        };
        launcher.shared = Some(Arc::new([whole]));
        let has = |step: &Step, option: &str| options(&launcher, step).contains(&option.to_owned());
        let mut step = single();
        for option in ["--overlap", "--cpus-per-task=8", "--mem=1024M", "--gres=none"] {
            assert!(has(&step, option), "{option}");
        }
        step.nodes[0].gpus = Box::new(["1".into()]);
        assert!(has(&step, "--gpus-per-node=3"));
        for option in ["--overlap", "--cpus-per-task=3", "--gpus-per-node=2"] {
            assert!(has(&gang(), option), "{option}");
        }
    }

    #[test]
    fn something_must_be_executed() {
        let mut step = single();
        step.argv.clear();
        launcher("22.05.8").plan(&step, "/files").expect_err("nothing to execute");
    }
}
