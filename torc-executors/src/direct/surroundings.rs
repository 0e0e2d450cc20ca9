//! What a job that a node worker starts finds in its environment. Pure.
//!
//! A node worker is a task of a Slurm step itself, and what Slurm told it about that task is nothing to
//! its jobs: a job that took the worker's rank or its PMI for its own would talk to the wrong peers. A job
//! is shown an allocation of its own nodes instead; whatever starts ranks in it is led to them by the
//! private srun ([`Sruns`](super::sruns::Sruns)), which comes first in its PATH.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use torc_core::ids::{AllocationId, AttemptId, JobId, RunId, StepId, WorkflowId};
use torc_core::resources::NodeInventory;
use torc_core::traits::{RankLayout, StdioPaths, Step, StepLimits, StepNode};

use super::sruns::{self, Sruns};
use crate::slurm::{hostlist, sights};

/// Variables of the worker's own task, by the beginning of their names; the rest of them srun would read,
/// too.
const TASK_PREFIXES: [&str; 4] = ["PMI2_", "PMIX_", "PMI_", "SLURM_PMI"];

/// The same by their names.
const TASK_NAMES: [&str; 13] = [
    "SLURM_CPUS_ON_NODE",
    "SLURM_GTIDS",
    "SLURM_JOB_GPUS",
    "SLURM_JOB_NAME",
    "SLURM_LAUNCH_NODE_IPADDR",
    "SLURM_LOCALID",
    "SLURM_NODEID",
    "SLURM_PRIO_PROCESS",
    "SLURM_PROCID",
    "SLURM_SHARDS_ON_NODE",
    "SLURM_STEPID",
    "SLURM_TASKS_PER_NODE",
    "SLURM_TASK_PID",
];

/// What begins like those, but is a user's to set (srun(1), ENVIRONMENT VARIABLES).
const USERS: [&str; 3] = ["PMIX_MCA_", "PMI_FANOUT", "PMI_TIME"];

/// By these a user chooses what Hydra (MPICH's and Intel MPI's mpiexec) starts its proxies with.
const HYDRA_CHOICES: [&str; 3] = ["HYDRA_BOOTSTRAP", "HYDRA_LAUNCHER", "I_MPI_HYDRA_BOOTSTRAP"];

/// What Hydra starts its proxies with: a PATH that a job changed may lead to the real srun.
const HYDRA: [&str; 2] = ["HYDRA_LAUNCHER_EXEC", "I_MPI_HYDRA_BOOTSTRAP_EXEC"];

/// Options of the sruns of Open MPI's mpirun, up to 4 and from 5 on, for the same reason.
const OPEN_MPI: [&str; 2] = ["OMPI_MCA_plm_slurm_args", "PRTE_MCA_plm_slurm_args"];

/// Where programs are looked for when the environment has no PATH (as `execvp(3)` does).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The node worker's environment without what is about the worker itself: what all its jobs start from.
pub(super) fn base(env: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let is_kept = |name: &OsString| {
        let Some(name) = name.to_str() else { return true };
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        !TASK_NAMES.contains(&name) && (!begins(&TASK_PREFIXES) || begins(&USERS))
    };
    sights::base(env).into_iter().filter(|(name, _)| is_kept(name)).collect()
}

/// The same for commands of actions, which have all GPUs of the node.
pub(super) fn base_of_commands(env: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let is_device = |name: &OsString| sights::DEVICES.iter().any(|known| name == *known);
    let devices = env.iter().filter(|(name, _)| is_device(name)).cloned();
    base(env).into_iter().chain(devices).collect()
}

/// What jobs are told besides the base environment.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    base: BTreeMap<String, String>,
    /// All nodes of the allocation.
    members: Vec<String>,
    /// GPUs that were granted on this node.
    gpus: usize,
}

impl Surroundings {
    /// On top of a base environment, in an allocation of these nodes, on one where so many GPUs were granted.
    pub(super) fn new(base: &[(OsString, OsString)], members: Vec<String>, gpus: usize) -> Self {
        let text = |(name, value): &(OsString, OsString)| {
            Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()))
        };
        Self { base: base.iter().filter_map(text).collect(), members, gpus }
    }

    /// Adds what a job, whose devices are those of this host, is told to its environment. What the job sets itself
    /// wins, but for what the private srun goes by.
    pub(super) fn add_to(&self, step: &mut Step, sruns: &Sruns) {
        let name = step.id.to_string();
        self.add(step, &name, sruns);
    }

    /// What a command of an action is told on this node, with the host's own ids of its devices, besides the base
    /// environment: the same as a job that has all of it. `own` is what it sets itself.
    pub(super) fn of_command(
        &self,
        node: &NodeInventory,
        own: BTreeMap<String, String>,
        sruns: &Sruns,
    ) -> BTreeMap<String, String> {
        let mut like = job_of_all(node);
        like.env = own;
        self.add(&mut like, sruns::COMMAND, sruns);
        like.env
    }

    fn add(&self, step: &mut Step, caller: &str, sruns: &Sruns) {
        let others = self.others(step);
        let options = sruns::options(caller, &others).join(" ");
        let mut added = sights::own_nodes(step);
        added.extend(ranks(step));
        added.insert("SLURM_JOB_NAME", caller.to_owned());
        added.insert("SLURM_OVERLAP", "1".to_owned());
        added.extend(self.gpus(step));
        if step.nodes.len() == 1 {
            added.insert("SLURM_TASK_PROLOG", sruns.prolog().to_owned());
        }
        added.extend(OPEN_MPI.map(|name| (name, options.clone())));
        if self.leaves_hydra_to_slurm(step) {
            added.extend(HYDRA.map(|name| (name, sruns.for_hydra().to_owned())));
        }
        for (name, value) in added {
            step.env.entry(name.to_owned()).or_insert(value);
        }
        let path = self.get(step, "PATH").unwrap_or(DEFAULT_PATH);
        let path = format!("{}:{path}", sruns.folder());
        step.env.insert("PATH".to_owned(), path);
        let orders = sruns::orders(step, caller, others);
        step.env.extend(orders);
    }

    /// A variable as the job would have it.
    fn get<'a>(&'a self, step: &'a Step, name: &str) -> Option<&'a str> {
        step.env.get(name).or_else(|| self.base.get(name)).map(String::as_str)
    }

    /// How many GPUs the job's own steps ask for: one that asks for none is shown none. It cannot ask for
    /// certain ones, so a job that shares its node asks for all, and the prolog shows it those that it has.
    fn gpus(&self, step: &Step) -> Option<(&'static str, String)> {
        let own = step.nodes.iter().map(|node| node.gpus.len()).min().filter(|&own| own > 0)?;
        let count = if step.nodes.len() > 1 { own } else { self.gpus.max(own) };
        Some(("SLURM_GPUS_PER_NODE", count.to_string()))
    }

    /// Hydra finds Slurm by itself, unless it is told otherwise.
    fn leaves_hydra_to_slurm(&self, step: &Step) -> bool {
        let mut choices = HYDRA_CHOICES.iter().filter_map(|name| self.get(step, name));
        choices.all(|choice| choice == "slurm")
    }

    /// The allocation's nodes that are not the step's, as a host list.
    fn others(&self, step: &Step) -> String {
        let is_own = |name: &String| step.nodes.iter().any(|node| *node.name == **name);
        let others: Vec<&String> = self.members.iter().filter(|name| !is_own(name)).collect();
        hostlist::compress(&others)
    }
}

/// A job that has the whole of a node; it is never launched.
fn job_of_all(node: &NodeInventory) -> Step {
    let all = StepNode {
        name: node.name.clone(),
        cores: node.cores.clone(),
        gpus: node.gpus.clone(),
        memory: node.memory,
    };
    Step {
        id: StepId {
            workflow: WorkflowId(1),
            job: JobId(1),
            run: RunId(1),
            attempt: AttemptId::FIRST,
        },
        job_name: sruns::COMMAND.into(),
        argv: Vec::new(),
        env: BTreeMap::new(),
        working_dir: "/".into(),
        stdio: StdioPaths::default(),
        allocation: AllocationId(1),
        nodes: vec![all],
        layout: RankLayout {
            ntasks_per_node: 1,
            cpus_per_node: node.cpus(),
            mpi: None,
            cpu_bind: None,
        },
        limits: StepLimits {
            memory: None,
            runtime: None,
            termination_signal: 0,
            termination_lead: Duration::ZERO,
        },
        expected_files: Vec::new(),
    }
}

/// How many ranks there are to be, and how they are to be started.
///
/// A job on one node is one rank to srun; to launchers that count the places for ranks it has one for each
/// of its CPUs.
fn ranks(step: &Step) -> BTreeMap<&'static str, String> {
    let cpus = sights::cpus_per_node(step);
    let here = cpus.first().copied().unwrap_or(1);
    let is_gang = step.nodes.len() > 1;
    let per_node = if is_gang { step.layout.ntasks_per_node.max(1) } else { 1 };
    let places = if is_gang { vec![per_node; cpus.len()] } else { cpus };
    let count = (step.nodes.len() as u64 * u64::from(per_node)).to_string();
    let mut env = BTreeMap::from([
        ("SLURM_NTASKS", count.clone()),
        ("SLURM_NPROCS", count),
        ("SLURM_TASKS_PER_NODE", sights::counts(&places)),
        ("SLURM_CPUS_PER_TASK", (here / per_node).max(1).to_string()),
        ("SLURM_CPUS_ON_NODE", here.to_string()),
    ]);
    env.extend(is_gang.then(|| ("SLURM_NTASKS_PER_NODE", per_node.to_string())));
    let layout = &step.layout;
    env.extend(layout.mpi.as_deref().map(|mpi| ("SLURM_MPI_TYPE", mpi.to_owned())));
    env.extend(layout.cpu_bind.as_deref().map(|bind| ("SLURM_CPU_BIND", bind.to_owned())));
    env
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use tempfile::TempDir;

    use super::super::notes::Notes;
    use super::*;
    use crate::slurm::launcher::tests::{gang, single};

    fn os(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    /// What is added to a step on top of a base environment, in an allocation of four nodes. The scripts lie
    /// in the folder `SCRATCH`.
    fn added(base: &[(&str, &str)], mut step: Step) -> String {
        told(base, |surroundings, sruns| {
            surroundings.add_to(&mut step, sruns);
            std::mem::take(&mut step.env)
        })
    }

    fn told(
        base: &[(&str, &str)],
        tell: impl FnOnce(&Surroundings, &Sruns) -> BTreeMap<String, String>,
    ) -> String {
        let scratch = TempDir::new().expect("a folder");
        let notes = Notes::of(scratch.path());
        notes.prepare().expect("is made");
        let sruns = Sruns::prepare(scratch.path(), "/opt/slurm/bin/srun".as_ref(), &notes);
        let sruns = sruns.expect("is written");
        let members = ["node1", "node2", "node3", "node4"].map(str::to_owned).to_vec();
        let env = tell(&Surroundings::new(&os(base), members, 2), &sruns);
        let folder = scratch.path().canonicalize().expect("is there");
        let folder = folder.to_str().expect("is text");
        let lines = env.iter().map(|(name, value)| format!("{name}={value}\n"));
        lines.collect::<String>().replace(folder, "SCRATCH")
    }

    #[test]
    fn a_job_on_one_node() {
        assert_snapshot!(added(&[("PATH", "/usr/bin:/bin")], single()), @"
        HYDRA_LAUNCHER_EXEC=SCRATCH/hydra
        I_MPI_HYDRA_BOOTSTRAP_EXEC=SCRATCH/hydra
        OMPI_MCA_plm_slurm_args=--overlap --job-name=torc_wf1_j2_r1_a1 --exclude=node[1-2,4]
        PATH=SCRATCH/bin:/usr/bin:/bin
        PRTE_MCA_plm_slurm_args=--overlap --job-name=torc_wf1_j2_r1_a1 --exclude=node[1-2,4]
        SLURM_CPUS_ON_NODE=4
        SLURM_CPUS_PER_TASK=4
        SLURM_CPU_BIND=none
        SLURM_JOB_CPUS_PER_NODE=4
        SLURM_JOB_CPUS_PER_NODE_PACK_GROUP_0=4
        SLURM_JOB_NAME=wf1_j2_r1_a1
        SLURM_JOB_NODELIST=node3
        SLURM_JOB_NUM_NODES=1
        SLURM_NNODES=1
        SLURM_NODELIST=node3
        SLURM_NPROCS=1
        SLURM_NTASKS=1
        SLURM_OVERLAP=1
        SLURM_TASKS_PER_NODE=4
        SLURM_TASK_PROLOG=SCRATCH/prolog
        TORC_JOB_ID=2
        TORC_SRUN_DEVICES=
        TORC_SRUN_NODES=node3
        TORC_SRUN_OTHERS=node[1-2,4]
        TORC_SRUN_STEP=wf1_j2_r1_a1
        ");
    }

    #[test]
    fn a_gang() {
        let mut step = gang();
        step.env.insert("PATH".into(), "/my/bin:/bin".into());
        assert_snapshot!(added(&[("PATH", "/usr/bin")], step), @"
        HYDRA_LAUNCHER_EXEC=SCRATCH/hydra
        I_MPI_HYDRA_BOOTSTRAP_EXEC=SCRATCH/hydra
        OMPI_MCA_plm_slurm_args=--overlap --job-name=torc_wf1_j2_r1_a1 --exclude=node1
        PATH=SCRATCH/bin:/my/bin:/bin
        PRTE_MCA_plm_slurm_args=--overlap --job-name=torc_wf1_j2_r1_a1 --exclude=node1
        SLURM_CPUS_ON_NODE=6
        SLURM_CPUS_PER_TASK=3
        SLURM_GPUS_PER_NODE=2
        SLURM_JOB_CPUS_PER_NODE=6(x3)
        SLURM_JOB_CPUS_PER_NODE_PACK_GROUP_0=6(x3)
        SLURM_JOB_NAME=wf1_j2_r1_a1
        SLURM_JOB_NODELIST=node[2-4]
        SLURM_JOB_NUM_NODES=3
        SLURM_MPI_TYPE=pmi2
        SLURM_NNODES=3
        SLURM_NODELIST=node[2-4]
        SLURM_NPROCS=6
        SLURM_NTASKS=6
        SLURM_NTASKS_PER_NODE=2
        SLURM_OVERLAP=1
        SLURM_TASKS_PER_NODE=2(x3)
        TORC_JOB_ID=2
        TORC_SRUN_DEVICES=
        TORC_SRUN_NODES=node[2-4]
        TORC_SRUN_OTHERS=node1
        TORC_SRUN_STEP=wf1_j2_r1_a1
        ");
    }

    #[test]
    fn a_command_is_told_what_a_job_of_the_whole_node_is() {
        let node = NodeInventory {
            name: "node3".into(),
            cores: (0..8).collect(),
            threads_per_core: 1,
            memory: 1 << 30,
            gpus: ["0", "1"].map(Box::from).into(),
            slots: None,
        };
        let own = [("PATH", "/my/bin"), ("TORC_RUN_ID", "1")];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let found = told(&[("PATH", "/usr/bin")], |surroundings, sruns| {
            surroundings.of_command(&node, own.into(), sruns)
        });
        assert_snapshot!(found, @"
        HYDRA_LAUNCHER_EXEC=SCRATCH/hydra
        I_MPI_HYDRA_BOOTSTRAP_EXEC=SCRATCH/hydra
        OMPI_MCA_plm_slurm_args=--overlap --job-name=torc_command --exclude=node[1-2,4]
        PATH=SCRATCH/bin:/my/bin
        PRTE_MCA_plm_slurm_args=--overlap --job-name=torc_command --exclude=node[1-2,4]
        SLURM_CPUS_ON_NODE=8
        SLURM_CPUS_PER_TASK=8
        SLURM_GPUS_PER_NODE=2
        SLURM_JOB_CPUS_PER_NODE=8
        SLURM_JOB_CPUS_PER_NODE_PACK_GROUP_0=8
        SLURM_JOB_NAME=command
        SLURM_JOB_NODELIST=node3
        SLURM_JOB_NUM_NODES=1
        SLURM_NNODES=1
        SLURM_NODELIST=node3
        SLURM_NPROCS=1
        SLURM_NTASKS=1
        SLURM_OVERLAP=1
        SLURM_TASKS_PER_NODE=8
        SLURM_TASK_PROLOG=SCRATCH/prolog
        TORC_RUN_ID=1
        TORC_SRUN_DEVICES=0,1
        TORC_SRUN_NODES=node3
        TORC_SRUN_OTHERS=node[1-2,4]
        TORC_SRUN_STEP=command
        ");
        let worker = [("CUDA_VISIBLE_DEVICES", "0,1"), ("SLURM_PROCID", "2"), ("PATH", "/bin")];
        let kept = [worker[2], worker[0]];
        assert_eq!(base_of_commands(&os(&worker)), os(&kept));
    }

    #[test]
    fn steps_of_a_job_that_shares_its_node_ask_for_all_gpus_or_none() {
        let mut step = single();
        assert!(!added(&[], step.clone()).contains("SLURM_GPUS_PER_NODE"));
        step.nodes[0].gpus = ["1".into()].into();
        let found = added(&[], step);
        assert!(found.contains("SLURM_GPUS_PER_NODE=2\n"), "{found}");
        assert!(found.contains("TORC_SRUN_DEVICES=1\n"), "{found}");
    }

    #[test]
    fn a_gang_of_all_nodes_excludes_none() {
        let mut step = gang();
        step.nodes.insert(0, StepNode { name: "node1".into(), ..step.nodes[0].clone() });
        let found = added(&[], step);
        let lines: Vec<&str> = found
            .lines()
            .filter(|line| line.contains("OTHERS") || line.contains("overlap"))
            .collect();
        assert_eq!(
            lines,
            [
                "OMPI_MCA_plm_slurm_args=--overlap --job-name=torc_wf1_j2_r1_a1",
                "PRTE_MCA_plm_slurm_args=--overlap --job-name=torc_wf1_j2_r1_a1",
                "TORC_SRUN_OTHERS="
            ]
        );
    }

    #[test]
    fn what_the_job_says_itself_wins() {
        let mut step = single();
        for name in
            ["SLURM_NTASKS", "SLURM_CPU_BIND", "OMPI_MCA_plm_slurm_args", "TORC_SRUN_OTHERS"]
        {
            step.env.insert(name.into(), "mine".into());
        }
        let found = added(&[], step);
        let mine: Vec<&str> = found.lines().filter_map(|line| line.strip_suffix("=mine")).collect();
        assert_eq!(mine, ["OMPI_MCA_plm_slurm_args", "SLURM_CPU_BIND", "SLURM_NTASKS"]);
        assert!(found.contains("PATH=SCRATCH/bin:/bin:/usr/bin\n"), "{found}");
    }

    #[test]
    fn hydra_is_helped_unless_it_is_to_use_something_else() {
        let check = |base: &[(&str, &str)], own: &[(&str, &str)], is_helped: bool| {
            let mut step = single();
            step.env.extend(own.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
            let found = added(base, step);
            let expected = [
                "HYDRA_LAUNCHER_EXEC=SCRATCH/hydra\n",
                "I_MPI_HYDRA_BOOTSTRAP_EXEC=SCRATCH/hydra\n",
            ];
            for line in expected {
                assert_eq!(found.contains(line), is_helped, "{base:?} {own:?}");
            }
        };
        check(&[], &[], true);
        check(&[("I_MPI_HYDRA_BOOTSTRAP", "slurm")], &[], true);
        check(&[("I_MPI_HYDRA_BOOTSTRAP", "ssh")], &[], false);
        check(&[], &[("HYDRA_LAUNCHER", "ssh")], false);
        check(&[("HYDRA_LAUNCHER", "ssh")], &[("HYDRA_LAUNCHER", "slurm")], true);
    }

    #[test]
    fn nothing_of_the_workers_own_task_is_left() {
        let task = "SLURM_PROCID SLURM_LOCALID SLURM_NODEID SLURM_STEPID SLURM_STEP_ID SLURM_STEP_NODELIST \
             SLURM_STEP_NUM_TASKS SLURM_STEP_GPUS SLURM_STEP_LAUNCHER_PORT SLURM_GTIDS SLURM_TASK_PID \
             SLURM_TASKS_PER_NODE SLURM_NTASKS SLURM_NTASKS_PER_NODE SLURM_NPROCS SLURM_NNODES \
             SLURM_LAUNCH_NODE_IPADDR SLURM_SRUN_COMM_HOST SLURM_SRUN_COMM_PORT SLURM_CPUS_ON_NODE \
             SLURM_CPUS_PER_TASK SLURM_CPU_BIND SLURM_CPU_BIND_LIST SLURM_CPU_BIND_TYPE \
             SLURM_CPU_BIND_VERBOSE SLURM_GPUS_ON_NODE SLURM_JOB_GPUS SLURM_JOB_NAME SLURM_MPI_TYPE \
             SLURM_PMI2_PROC_MAPPING SLURM_PMI2_STEP_NODES SLURM_PMIX_MAPPING_SERV SLURM_PMIXP_ABORT_AGENT_PORT \
             SLURM_PRIO_PROCESS SLURM_UMASK SLURM_DISTRIBUTION SLURM_MEM_PER_NODE SLURM_OVERLAP SRUN_DEBUG \
             PMI_RANK PMI_SIZE PMI_FD PMI_JOBID PMI2_RANK PMIX_RANK PMIX_NAMESPACE PMIX_SERVER_URI4 \
             CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK";
        let kept = "PATH SLURMD_NODENAME SLURM_JOB_ID SLURM_JOBID SLURM_CONF SLURM_CLUSTER_NAME SLURM_JOB_ACCOUNT \
             SLURM_JOB_PARTITION SLURM_SUBMIT_DIR SLURM_TOPOLOGY_ADDR SLURM_WORKING_CLUSTER SLURM_JOB_NODELIST \
             PMI_FANOUT PMI_TIME PMIX_MCA_gds TMPDIR TORC_TEST_SLURM";
        let pairs: Vec<(&str, &str)> = format_pairs(task).chain(format_pairs(kept)).collect();
        let found = base(&os(&pairs));
        let names: Vec<&str> = found.iter().filter_map(|(name, _)| name.to_str()).collect();
        assert_eq!(names, kept.split(' ').collect::<Vec<_>>());
    }

    fn format_pairs(names: &str) -> impl Iterator<Item = (&str, &str)> {
        names.split(' ').map(|name| (name, "1"))
    }
}
