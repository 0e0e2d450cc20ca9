//! What srun and the job that it starts find in their environments. Pure.
//!
//! srun takes most of its options from variables, too (srun(1), INPUT ENVIRONMENT VARIABLES), and sbatch
//! sets many of them for the allocation as a whole. None of these may reach an srun of torc's, whose
//! every option is on its command line. What the job is to see of them is set inside its task.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use torc_core::traits::{Step, StepNode};

use super::hostlist;

/// Variables that srun reads, by the beginning of their names. The list is longer than any one
/// release's: what one of them reads is of no use to the others.
const READ_BY_PREFIX: [&str; 29] = [
    "SLURM_BCAST",
    "SLURM_CONTAINER",
    "SLURM_CPUS_PER_",
    "SLURM_CPU_BIND",
    "SLURM_CPU_FREQ",
    "SLURM_DEBUG",
    "SLURM_DIST",
    "SLURM_EXCLUSIVE",
    "SLURM_EXIT_",
    "SLURM_GPU",
    "SLURM_GRES",
    "SLURM_MEM_",
    "SLURM_NCORES_",
    "SLURM_NSOCKETS_",
    "SLURM_NTASKS",
    "SLURM_OOM_KILL_STEP",
    "SLURM_OPEN_MODE",
    "SLURM_OVER",
    "SLURM_PROFILE",
    "SLURM_RESV_PORTS",
    "SLURM_SPREAD_",
    "SLURM_SRUN_",
    "SLURM_STDERRMODE",
    "SLURM_STDINMODE",
    "SLURM_STDOUTMODE",
    "SLURM_STEP_",
    "SLURM_THREAD",
    "SLURM_TRES_",
    "SRUN_",
];

/// Variables that srun reads, by their names.
const READ_BY_NAME: [&str; 52] = [
    "SLURM_ACCOUNT",
    "SLURM_ACCTG_FREQ",
    "SLURM_ARBITRARY_NODELIST",
    "SLURM_BURST_BUFFER",
    "SLURM_CLUSTERS",
    "SLURM_CLUSTER_CONSTRAINT",
    "SLURM_COMPRESS",
    "SLURM_CONSTRAINT",
    "SLURM_CORE_SPEC",
    "SLURM_DELAY_BOOT",
    "SLURM_DEPENDENCY",
    "SLURM_DISABLE_STATUS",
    "SLURM_EPILOG",
    "SLURM_EXACT",
    "SLURM_EXPORT_ENV",
    "SLURM_HINT",
    "SLURM_HOSTFILE",
    "SLURM_IMMEDIATE",
    "SLURM_JOB_NUM_NODES",
    "SLURM_KILL_BAD_EXIT",
    "SLURM_LABELIO",
    "SLURM_MPI_TYPE",
    "SLURM_NETWORK",
    "SLURM_NNODES",
    "SLURM_NO_KILL",
    "SLURM_NPROCS",
    "SLURM_PARTITION",
    "SLURM_POWER",
    "SLURM_PROLOG",
    "SLURM_QOS",
    "SLURM_RELATIVE",
    "SLURM_REMOTE_CWD",
    "SLURM_REQ_SWITCH",
    "SLURM_RESERVATION",
    "SLURM_SEGMENT_SIZE",
    "SLURM_SEND_LIBS",
    "SLURM_SIGNAL",
    "SLURM_TASK_EPILOG",
    "SLURM_TASK_PROLOG",
    "SLURM_TEST_EXEC",
    "SLURM_TIMELIMIT",
    "SLURM_TREE_WIDTH",
    // srun sets it from the mask that it is started with, unless it is set.
    "SLURM_UMASK",
    "SLURM_UNBUFFEREDIO",
    "SLURM_USE_MIN_NODES",
    "SLURM_WAIT",
    "SLURM_WAIT4SWITCH",
    "SLURM_WAIT_FOR_CHILDREN",
    "SLURM_WCKEY",
    "SLURM_WHOLE",
    "SLURM_WORKING_DIR",
    "SLURMD_DEBUG",
];

/// Variables by which Slurm shows a job its GPUs. Those of the batch script are not the step's.
pub(crate) const DEVICES: [&str; 5] = [
    "CUDA_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
];

/// Variables by which a process finds the PMI server of its step. In an environment that comes from inside a
/// step they would lead a job to a server that is not its own.
const OF_ANOTHER_STEP: [&str; 10] = [
    "PMIX_NAMESPACE",
    "PMIX_RANK",
    "PMIX_SERVER_URI2",
    "PMIX_SERVER_URI21",
    "PMIX_SERVER_URI3",
    "PMIX_SERVER_URI4",
    "PMI_FD",
    "PMI_JOBID",
    "PMI_RANK",
    "PMI_SIZE",
];

/// Whether srun would take this variable for an option.
pub(super) fn is_read_by_srun(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    READ_BY_NAME.iter().any(|known| name == *known)
        || READ_BY_PREFIX.iter().any(|prefix| bytes.starts_with(prefix.as_bytes()))
}

/// The environment of the process that launches, as far as every srun is to have it.
pub(crate) fn base(env: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let of_this_place = DEVICES.iter().chain(&OF_ANOTHER_STEP);
    let is_kept =
        |name: &OsString| !is_read_by_srun(name) && !of_this_place.clone().any(|one| name == *one);
    env.iter().filter(|(name, _)| is_kept(name)).cloned().collect()
}

/// A step's own variables, as far as its srun is to have them; the rest is in [`inside`].
pub(super) fn of_srun(env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let kept = env.iter().filter(|(name, _)| !is_read_by_srun(OsStr::new(name)));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What is set inside the task, as `NAME=VALUE`: the nodes of the step in place of the allocation's,
/// and those of the step's own variables that srun must not see, which win.
///
/// Launchers of MPI that run inside the job look at the variables of the allocation (Open MPI at
/// SLURM_JOB_NODELIST, torch's at SLURM_NNODES).
pub(super) fn inside(step: &Step) -> Vec<String> {
    let mut env: BTreeMap<&str, String> = own_nodes(step);
    // What an srun says that is not asked to be verbose, as torc's is.
    env.insert("SRUN_DEBUG", "3".to_owned());
    let own = step.env.iter().filter(|(name, _)| is_read_by_srun(OsStr::new(name)));
    // A shell could not set others.
    let own = own.filter(|(name, _)| is_identifier(name));
    env.extend(own.map(|(name, value)| (name.as_str(), value.clone())));
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The variables by which Slurm tells a job its nodes, as the step's nodes alone would have them.
pub(crate) fn own_nodes(step: &Step) -> BTreeMap<&'static str, String> {
    let names: Vec<&str> = step.nodes.iter().map(|node| &*node.name).collect();
    let (list, count) = (hostlist::compress(&names), names.len().to_string());
    let cpus = counts(&cpus_per_node(step));
    BTreeMap::from([
        ("SLURM_JOB_NODELIST", list.clone()),
        ("SLURM_NODELIST", list),
        ("SLURM_JOB_NUM_NODES", count.clone()),
        ("SLURM_NNODES", count),
        ("SLURM_JOB_CPUS_PER_NODE", cpus.clone()),
        // srun 22.05 sets this one, too, from the allocation that it asks about.
        ("SLURM_JOB_CPUS_PER_NODE_PACK_GROUP_0", cpus),
    ])
}

/// The CPUs that the step is given on each node. A gang holds its nodes whole, but is given what its
/// ranks share.
pub(crate) fn cpus_per_node(step: &Step) -> Vec<u32> {
    match step.nodes.as_slice() {
        [node] => vec![cpus(node)],
        nodes => vec![step.layout.cpus_per_node; nodes.len()],
    }
}

/// The same as `TORC_CPUS_PER_NODE` lists them.
pub(crate) fn cpus_list(step: &Step) -> String {
    cpus_per_node(step).iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn cpus(node: &StepNode) -> u32 {
    u32::try_from(node.cores.len()).unwrap_or(u32::MAX)
}

/// `8(x3),4`, as Slurm writes one count for each node.
pub(crate) fn counts(counts: &[u32]) -> String {
    let runs = counts.chunk_by(|a, b| a == b).map(|run| match run {
        [one] => one.to_string(),
        run => format!("{}(x{})", run[0], run.len()),
    });
    runs.collect::<Vec<_>>().join(",")
}

fn is_identifier(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::super::launcher::tests::{gang, single};
    use super::*;

    #[test]
    fn srun_reads_what_its_manual_page_says() {
        let read = "SLURM_ACCOUNT SLURM_ACCTG_FREQ SLURM_BCAST SLURM_BCAST_EXCLUDE SLURM_BURST_BUFFER \
             SLURM_CLUSTERS SLURM_COMPRESS SLURM_CONSTRAINT SLURM_CORE_SPEC SLURM_CPU_BIND \
             SLURM_CPU_FREQ_REQ SLURM_CPUS_PER_GPU SLURM_CPUS_PER_TASK SRUN_CPUS_PER_TASK SLURM_DEBUG \
             SLURM_DEBUG_FLAGS SLURM_DELAY_BOOT SLURM_DEPENDENCY SLURM_DISABLE_STATUS \
             SLURM_DIST_PLANESIZE SLURM_DISTRIBUTION SLURM_EPILOG SLURM_EXACT SLURM_EXCLUSIVE \
             SLURM_EXIT_ERROR SLURM_EXIT_IMMEDIATE SLURM_EXPORT_ENV SLURM_GPU_BIND SLURM_GPU_FREQ \
             SLURM_GPUS SLURM_GPUS_PER_NODE SLURM_GPUS_PER_TASK SLURM_GRES SLURM_GRES_FLAGS SLURM_HINT \
             SLURM_IMMEDIATE SLURM_JOB_NUM_NODES SLURM_KILL_BAD_EXIT SLURM_LABELIO SLURM_MEM_BIND \
             SLURM_MEM_PER_CPU SLURM_MEM_PER_GPU SLURM_MEM_PER_NODE SLURM_MPI_TYPE SLURM_NETWORK \
             SLURM_NNODES SLURM_NO_KILL SLURM_NPROCS SLURM_NTASKS SLURM_NTASKS_PER_CORE \
             SLURM_NTASKS_PER_GPU SLURM_NTASKS_PER_NODE SLURM_NTASKS_PER_SOCKET SLURM_OPEN_MODE \
             SLURM_OVERCOMMIT SLURM_OVERLAP SLURM_PARTITION SLURM_POWER SLURM_PROFILE SLURM_PROLOG \
             SLURM_QOS SLURM_REMOTE_CWD SLURM_REQ_SWITCH SLURM_RESERVATION SLURM_RESV_PORTS \
             SLURM_SEND_LIBS SLURM_SIGNAL SLURM_SPREAD_JOB SLURM_SRUN_REDUCE_TASK_EXIT_MSG \
             SLURM_STDERRMODE SLURM_STDINMODE SLURM_STDOUTMODE SLURM_STEP_GRES \
             SLURM_STEP_KILLED_MSG_NODE_ID SLURM_TASK_EPILOG SLURM_TASK_PROLOG SLURM_TEST_EXEC \
             SLURM_THREAD_SPEC SLURM_THREADS SLURM_THREADS_PER_CORE SLURM_TIMELIMIT SLURM_TRES_PER_TASK \
             SLURM_UMASK SLURM_UNBUFFEREDIO SLURM_USE_MIN_NODES SLURM_WAIT SLURM_WAIT4SWITCH \
             SLURM_WCKEY SLURM_WORKING_DIR SLURMD_DEBUG SRUN_CONTAINER SRUN_EXPORT_ENV";
        let missed: Vec<&str> =
            read.split(' ').filter(|name| !is_read_by_srun(OsStr::new(name))).collect();
        assert_eq!(missed, [""; 0]);
        let needed = "SLURM_CONF SLURM_JOB_ID SLURM_JOBID SLURM_JOB_NAME SLURM_STEPMGR SLURM_JWT \
             SLURM_WORKING_CLUSTER SLURM_SUBMIT_DIR SLURM_JOB_ACCOUNT SLURM_RLIMIT_CORE \
             SLURM_SPANK_X11 PMI_FANOUT PATH SRUNNING";
        let lost: Vec<&str> =
            needed.split(' ').filter(|name| is_read_by_srun(OsStr::new(name))).collect();
        assert_eq!(lost, [""; 0]);
    }

    #[test]
    fn nothing_of_the_script_or_step_around_it_reaches_srun() {
        let env = [
            ("PATH", "/bin"),
            ("PMI_FANOUT", "16"),
            ("SLURM_JOB_ID", "7"),
            ("PMI_FD", "11"),
            ("SLURM_MEM_PER_NODE", "0"),
            ("SLURM_NTASKS", "4"),
            ("CUDA_VISIBLE_DEVICES", "0,1"),
        ];
        let env = env.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        assert_eq!(base(&env), env[..3]);
    }

    #[test]
    fn a_job_sees_its_own_nodes_and_what_it_set() {
        let mut step = single();
        step.env.insert("SLURM_CPU_BIND".into(), "cores a".into());
        step.env.insert("SRUN_a.b".into(), "no shell can".into());
        step.env.insert("PLAIN".into(), "1".into());
        let expected = [
            "SLURM_CPU_BIND=cores a",
            "SLURM_JOB_CPUS_PER_NODE=4",
            "SLURM_JOB_CPUS_PER_NODE_PACK_GROUP_0=4",
            "SLURM_JOB_NODELIST=node3",
            "SLURM_JOB_NUM_NODES=1",
            "SLURM_NNODES=1",
            "SLURM_NODELIST=node3",
            "SRUN_DEBUG=3",
        ];
        assert_eq!(inside(&step), expected);
        let names: Vec<String> = of_srun(&step.env).into_keys().collect();
        assert_eq!(names, ["PLAIN", "TORC_JOB_ID"]);
        let expected = [
            "SLURM_JOB_CPUS_PER_NODE=6(x3)",
            "SLURM_JOB_CPUS_PER_NODE_PACK_GROUP_0=6(x3)",
            "SLURM_JOB_NODELIST=node[2-4]",
            "SLURM_JOB_NUM_NODES=3",
            "SLURM_NNODES=3",
            "SLURM_NODELIST=node[2-4]",
            "SRUN_DEBUG=3",
        ];
        assert_eq!(inside(&gang()), expected);
    }

    #[test]
    fn counts_are_drawn_together() {
        assert_eq!(counts(&[8, 8, 8, 4]), "8(x3),4");
        assert_eq!(counts(&[4]), "4");
    }
}
