//! Node workers on every node: what becomes of them, and where what their jobs start lands.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torc_core::traits::{Outcome, Step, StepSignal};
use torc_executors::direct::{MusterEvent, Traces, end_steps_of};

use crate::cluster::{fail, not_run_here};
use crate::crew::Crew;
use crate::site::{Test, Where, appears, run, step_id};

const fn on_all(name: &'static str, run: fn()) -> Test {
    Test { place: Where::Main { nodes: 4 }, ..Test::new(name, run) }
}

pub(crate) const TESTS: &[Test] = &[
    on_all("each_node_has_a_worker_and_each_end_is_told", each_node_has_a_worker),
    on_all("a_jobs_own_steps_run_on_its_nodes_only", own_steps_run_on_own_nodes),
    on_all("mpi_launchers_start_ranks_on_the_gangs_nodes_only", launchers_stay_on_the_gangs_nodes),
    on_all("what_a_killed_gang_left_is_gone_before_its_end_is_told", a_killed_gang_leaves_nothing),
    on_all("what_the_jobs_of_a_lost_worker_left_can_be_ended", a_lost_workers_steps),
    on_all("a_node_that_dies_ends_no_other_worker", a_node_that_dies),
    on_all("workers_are_started_again_without_a_node_that_cannot_be_reached", an_unreachable_node),
    Test::new("a_job_sees_what_is_its_own", a_job_sees_what_is_its_own),
    Test { place: Where::Threads, ..Test::new("a_node_with_threads_has_a_worker", threads) },
];

/// `where STEP` prints the node that a process is on by the slurmstepd above it, which holds its node's log
/// open, and the nodes of its step. SLURMD_NODENAME is what Hydra had where it was started.
const WHERE: &str = r#"#!/bin/bash
pid=$$
while [ "$(cat /proc/$pid/comm)" != slurmstepd ]; do
    pid=$(awk '/^PPid/ { print $2 }' /proc/$pid/status)
    [ "$pid" -gt 1 ] || exit 1
done
echo "at $(ls -l /proc/$pid/fd | sed -n 's/.*slurmd\.\(.*\)\.log.*/\1/p' | head -1) of $SLURM_STEP_NODELIST"
[ $# = 0 ] || exec "$@"
"#;

fn ended(node: &str, words: &str) -> MusterEvent {
    MusterEvent::TaskEnded { nodes: vec![node.to_owned()], words: words.to_owned() }
}

fn each_node_has_a_worker() {
    run(async {
        let mut crew = Crew::new().await;
        let mut names: Vec<&str> = crew.pids.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["node1", "node2", "node3", "node4"]);
        assert_eq!(crew.steps(), ["torc_workers"]);
        let pid = crew.path("pid");
        crew.launch(crew.step(1, &[1], &format!("echo $$ > {pid}; exec sleep 1000"))).await;
        let pid: i32 = appears(Path::new(&pid)).await.trim().parse().expect("a process id");
        kill(Pid::from_raw(crew.pids["node2"]), Signal::SIGKILL).expect("is killed");
        assert_eq!(crew.told().await, ended("node2", "Killed"));
        while Path::new(&format!("/proc/{pid}")).exists() {
            tokio::task::yield_now().await;
        }
        for node in [0, 2, 3] {
            let seen =
                crew.output(crew.step(10 + node, &[node as usize], "echo $SLURMD_NODENAME")).await;
            assert_eq!(seen, format!("node{}\n", node + 1));
        }
        crew.dismiss("node3").await;
        assert_eq!(crew.told().await, ended("node3", "Completed"));
        crew.muster.end().await;
        let mut left: Vec<MusterEvent> = Vec::new();
        while let Ok(event) = crew.told.try_recv() {
            left.push(event);
        }
        let last = left.pop().expect("an end");
        assert!(
            matches!(&last, MusterEvent::Ended { nodes, is_aborted: false, .. } if nodes.len() == 4),
            "{last:?}"
        );
        assert_eq!(left.len(), 2, "{left:?}");
        assert_eq!(crew.steps(), [""; 0]);
    });
}

/// The nodes of a step; what it calls; where ranks are then, and the nodes of their step of Slurm's.
type Case = (&'static [usize], &'static str, &'static [(&'static str, usize)], &'static str);

/// A program in the temporary folder.
fn write_program(crew: &Crew, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = crew.path(name);
    std::fs::write(&path, text).expect("is written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("is a program");
}

/// How many lines say so.
fn count(output: &str, line: &str) -> usize {
    output.lines().filter(|&found| found == line).count()
}

fn own_steps_run_on_own_nodes() {
    run(async {
        let mut crew = Crew::new().await;
        write_program(&crew, "where", WHERE);
        // Others are there, and hold the nodes that come first.
        crew.launch(crew.step(1, &[0], "exec sleep 1000")).await;
        crew.launch(crew.step(2, &[1], "exec sleep 1000")).await;
        let mut job = 10;
        let cases: [Case; 15] = [
            (&[2], "srun ./where", &[("node3", 1)], "node3"),
            (&[2], "srun -n1 ./where", &[("node3", 1)], "node3"),
            (&[2], "srun -N1 ./where", &[("node3", 1)], "node3"),
            (&[2], "srun -n2 ./where", &[("node3", 2)], "node3"),
            (&[2], "srun -w node3 ./where", &[("node3", 1)], "node3"),
            (
                &[2],
                "/usr/bin/env srun --exact -n2 -c1 --mem=100M ./where",
                &[("node3", 2)],
                "node3",
            ),
            (&[2, 3], "srun ./where", &[("node3", 2), ("node4", 2)], "node[3-4]"),
            (&[2, 3], "srun -n1 ./where", &[("node3", 1)], "node3"),
            (&[2, 3], "srun -N1 ./where", &[("node3", 4)], "node3"),
            (&[2, 3], "srun -N1 -n1 ./where", &[("node3", 1)], "node3"),
            (&[2, 3], "srun -w node4 ./where", &[("node3", 2), ("node4", 2)], "node[3-4]"),
            (&[2, 3], "srun -w node4 -N1 -n1 ./where", &[("node4", 1)], "node4"),
            (&[2, 3], "srun -N2 -n2 ./where", &[("node3", 1), ("node4", 1)], "node[3-4]"),
            (
                &[2, 3],
                "srun --overlap --job-name=mine ./where",
                &[("node3", 2), ("node4", 2)],
                "node[3-4]",
            ),
            (&[0, 1], "srun ./where", &[("node1", 2), ("node2", 2)], "node[1-2]"),
        ];
        for (nodes, command, places, list) in cases {
            job += 1;
            let output = crew.output(crew.step(job, nodes, command)).await;
            let ranks: usize = places.iter().map(|(_, ranks)| ranks).sum();
            assert_eq!(output.lines().count(), ranks, "{command}: {output}");
            for &(node, ranks) in places {
                let line = format!("at {node} of {list}");
                assert_eq!(count(&output, &line), ranks, "{command}: {output}");
            }
        }
        let version = crew.output(crew.step(90, &[2, 3], "srun --version")).await;
        assert!(version.starts_with("slurm"), "{version}");
        for (job, nodes, other) in [(91, vec![2], "node4"), (92, vec![2, 3], "node1")] {
            crew.launch(crew.step(job, &nodes, &format!("srun -w {other} -N1 -n1 ./where"))).await;
            assert_eq!(crew.end().await.1, Outcome::Exited { code: 1 }, "{other} is another's");
        }
        assert_eq!(crew.steps(), ["torc_workers"]);
    });
}

/// Compiles the MPI program with this compiler; false if there is none.
fn compile(crew: &Crew, compiler: &str, name: &str) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/slurm/allreduce.c");
    let compiled = Command::new(compiler).arg("-o").arg(crew.path(name)).arg(source).status();
    compiled.is_ok_and(|status| status.success())
}

fn launchers_stay_on_the_gangs_nodes() {
    run(async {
        let mut crew = Crew::new().await;
        write_program(&crew, "where", WHERE);
        crew.launch(crew.step(1, &[0], "exec sleep 1000")).await;
        crew.launch(crew.step(2, &[1], "exec sleep 1000")).await;
        let open_mpi = "OMPI_MCA_btl=tcp,self mpirun.openmpi --allow-run-as-root";
        let bare = "PATH=/usr/bin:/bin";
        let cases = [
            ("mpich", "srun --mpi=pmi2".to_owned()),
            ("mpich", "mpiexec.hydra".to_owned()),
            ("mpich", "mpiexec.hydra -n 4".to_owned()),
            ("mpich", format!("{bare} mpiexec.hydra")),
            ("openmpi", open_mpi.to_owned()),
            ("openmpi", format!("{open_mpi} -n 4")),
            ("openmpi", format!("{bare} {open_mpi}")),
        ];
        for library in ["mpich", "openmpi"] {
            if !compile(&crew, &format!("mpicc.{library}"), library) {
                not_run_here(&format!(
                    "torc-executors direct::mpi_launchers: there is no mpicc.{library}"
                ));
                return;
            }
        }
        for (job, (library, launcher)) in (10..).zip(&cases) {
            let gang = crew.step(job, &[2, 3], &format!("{launcher} ./where ./{library}"));
            check_ranks(&crew.output(gang).await, launcher, &["node3", "node4"], 2, "node[3-4]");
            // A job on one node has a place for a rank for each of its CPUs.
            if launcher.starts_with("mpiexec") || launcher.starts_with(open_mpi) {
                let launcher = launcher.trim_end_matches(" -n 4");
                let single = crew.step(job + 50, &[2], &format!("{launcher} ./where ./{library}"));
                check_ranks(&crew.output(single).await, launcher, &["node3"], 2, "node3");
            }
        }
        assert_eq!(crew.steps(), ["torc_workers"]);
    });
}

/// So many ranks on each node found each other.
#[track_caller]
fn check_ranks(output: &str, launcher: &str, nodes: &[&str], each: usize, list: &str) {
    let ranks = nodes.len() * each;
    for node in nodes {
        assert_eq!(count(output, &format!("at {node} of {list}")), each, "{launcher}: {output}");
    }
    let sum = format!(" sum {}", ranks * (ranks - 1) / 2);
    let of = format!(" of {ranks} on ");
    let met = output.lines().filter(|line| line.contains(&of) && line.ends_with(&sum)).count();
    assert_eq!((met, output.lines().count()), (ranks, 2 * ranks), "{launcher}: {output}");
}

/// A gang on node3 and node4 whose ranks say who they are and wait, once they are all there.
async fn start_waiting_gang(crew: &mut Crew, launcher: &str) -> Vec<i32> {
    let rank = "#!/bin/bash\necho $$ > rank.$SLURM_PROCID.new; mv rank.$SLURM_PROCID.new rank.$SLURM_PROCID\n\
                exec sleep 1000\n";
    write_program(crew, "rank", rank);
    crew.launch(crew.step(1, &[2, 3], &format!("{launcher} ./rank; true"))).await;
    let mut pids = Vec::new();
    for rank in 0..4 {
        let text = appears(Path::new(&crew.path(&format!("rank.{rank}")))).await;
        pids.push(text.trim().parse().expect("a process id"));
    }
    pids
}

fn forget_ranks(crew: &Crew) {
    (0..4).for_each(|rank| drop(std::fs::remove_file(crew.path(&format!("rank.{rank}")))));
}

fn live(pids: &[i32]) -> Vec<i32> {
    pids.iter().copied().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect()
}

/// The real srun on another of the gang's hosts, which on this cluster are one and have a name in common.
const ELSEWHERE: &str = "unshare --uts bash -c 'hostname node4; exec \"$@\"' - /usr/bin/srun \
                         --exclude=node[1-2] --job-name=mine";

fn a_killed_gang_leaves_nothing() {
    run(async {
        let mut crew = Crew::new().await;
        // By its name, by its srun, and by its nodes alone.
        let bare = "/usr/bin/srun --exclude=node[1-2]";
        for launcher in ["srun", "srun --job-name=mine", bare, ELSEWHERE] {
            let pids = start_waiting_gang(&mut crew, launcher).await;
            assert_eq!(live(&pids).len(), 4);
            crew.signal("node3", 1, StepSignal::Kill).await;
            assert_eq!(crew.end().await, (step_id(1), Outcome::Cancelled));
            assert_eq!(live(&pids), [0; 0], "{launcher}");
            assert_eq!(crew.steps(), ["torc_workers"]);
            forget_ranks(&crew);
        }
    });
}

fn a_lost_workers_steps() {
    run(async {
        let mut crew = Crew::new().await;
        for launcher in ["srun", "srun --job-name=mine", ELSEWHERE] {
            let pids = start_waiting_gang(&mut crew, launcher).await;
            kill(Pid::from_raw(crew.pids["node3"]), Signal::SIGKILL).expect("is killed");
            // The srun of the worker before may have ended since.
            while crew.told().await != ended("node3", "Killed") {}
            let whole_nodes = ["node3", "node4"].map(str::to_owned).to_vec();
            let traces = Traces { step: step_id(1), whole_nodes, sruns: Vec::new() };
            end_steps_of(&crew.allocation, crew.path("").as_ref(), &[traces]).await;
            assert_eq!(live(&pids), [0; 0], "{launcher}");
            assert_eq!(crew.steps(), ["torc_workers"]);
            // The nodes can be used again.
            let again: Vec<_> =
                crew.nodes.iter().filter(|node| &*node.name == "node3").cloned().collect();
            crew.muster.start_on(&again).expect("is started");
            crew.gather(1).await;
            let output = crew
                .output(crew.step(5, &[2, 3], "srun -n2 bash -c 'echo $SLURMD_NODENAME'"))
                .await;
            assert_eq!(output.lines().count(), 2, "{output}");
            forget_ranks(&crew);
            drop(std::fs::remove_file(crew.path("out5")));
        }
    });
}

fn a_node_that_dies() {
    run(async {
        let mut crew = Crew::new().await;
        fail("node4").await;
        let event = crew.told().await;
        let MusterEvent::NodesFailed { nodes, words } = &event else { panic!("{event:?}") };
        assert_eq!(
            (nodes.as_slice(), words.as_str()),
            (["node4".to_owned()].as_slice(), "Node failure on node4")
        );
        for node in [0, 1, 2] {
            let seen = crew.output(crew.step(10 + node, &[node as usize], "srun echo on")).await;
            assert_eq!(seen, "on\n");
        }
        for node in ["node1", "node2", "node3"] {
            crew.dismiss(node).await;
            assert_eq!(crew.told().await, ended(node, "Completed"));
        }
        let event = crew.told().await;
        assert!(matches!(&event, MusterEvent::Ended { is_aborted: false, .. }), "{event:?}");
    });
}

fn an_unreachable_node() {
    run(async {
        fail("node4").await;
        let mut crew = Crew::start().await;
        let mut have_failed = Vec::new();
        loop {
            match crew.told().await {
                MusterEvent::NodesFailed { nodes, .. } => have_failed.extend(nodes),
                MusterEvent::TaskEnded { .. } => {}
                MusterEvent::Ended { nodes, words, is_aborted, .. } => {
                    assert!(is_aborted && nodes.len() == 4, "{words}");
                    break;
                }
            }
        }
        assert_eq!(have_failed, ["node4"]);
        let others: Vec<_> =
            crew.nodes.iter().filter(|node| &*node.name != "node4").cloned().collect();
        crew.muster.start_on(&others).expect("are started");
        // Connections of workers that were ended may come first.
        while live(&crew.pids.values().copied().collect::<Vec<_>>()).len() < 3 {
            crew.gather(1).await;
        }
        let seen = crew.output(crew.step(1, &[2], "echo $SLURMD_NODENAME")).await;
        assert_eq!(seen, "node3\n");
    });
}

fn with_gpu(mut step: Step, gpu: &str) -> Step {
    step.nodes[0].gpus = [gpu.into()].into();
    step
}

fn a_job_sees_what_is_its_own() {
    run(async {
        let mut crew = Crew::new().await;
        let name = crew.nodes[1].name.clone();
        let script = "echo $SLURMD_NODENAME $SLURM_JOB_NODELIST $SLURM_NNODES $SLURM_NTASKS $SLURM_JOB_NAME; \
                      echo ${SLURM_PROCID-no} ${SLURM_STEP_ID-no} ${CUDA_VISIBLE_DEVICES-no} $TORC_NODELIST; \
                      test $SLURM_JOB_ID = $SLURM_JOBID && scontrol show job $SLURM_JOB_ID > /dev/null";
        let output = crew.output(crew.step(1, &[1], script)).await;
        assert_eq!(output, format!("{name} {name} 1 1 wf1_j1_r1_a1\nno no no {name}\n"));
        let gpu = crew.nodes[1].gpus[1].to_string();
        let step = with_gpu(crew.step(2, &[1], "echo $CUDA_VISIBLE_DEVICES"), &gpu);
        assert_eq!(crew.output(step).await, "1\n");
        let step = with_gpu(crew.step(4, &[1], "srun bash -c 'echo $CUDA_VISIBLE_DEVICES'"), &gpu);
        assert_eq!(crew.output(step).await, "1\n");
        let step = crew.step(5, &[1], "srun bash -c 'echo ${CUDA_VISIBLE_DEVICES-no}'");
        assert_eq!(crew.output(step).await, "no\n");
        let step = crew.step(6, &[0, 1], "srun -n2 bash -c 'echo $CUDA_VISIBLE_DEVICES'");
        assert_eq!(crew.output(step).await, "0,1\n0,1\n");
        // Two CPUs are fewer than were granted: nobody is bound.
        let output = crew.output(crew.step(3, &[1], "nproc")).await;
        let all = std::thread::available_parallelism().expect("is known");
        assert_eq!(output, format!("{all}\n"));
    });
}

fn threads() {
    run(async {
        let mut crew = Crew::new().await;
        assert_eq!(crew.nodes[0].cores.len(), 16);
        let output = crew.output(crew.step(1, &[0], "srun bash -c 'echo $SLURMD_NODENAME'")).await;
        assert_eq!(output, format!("{}\n", crew.nodes[0].name));
    });
}
