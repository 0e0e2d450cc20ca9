//! Steps on several nodes.

use std::process::Command;

use torc_core::traits::{Executor, Outcome, StepSignal};

use crate::cluster::not_run_here;
use crate::site::{Site, Test, appears, run, step_id};

pub(crate) const TESTS: &[Test] = &[
    Test::new("ranks_see_their_nodes", ranks_see_their_nodes),
    Test::new("one_bad_rank_ends_all", one_bad_rank_ends_all),
    Test::new("a_gang_has_all_of_its_nodes", a_gang_has_all_of_its_nodes),
    Test::new("a_gang_can_be_stopped", a_gang_can_be_stopped),
    Test::new("ranks_find_each_other", ranks_find_each_other),
];

fn ranks_see_their_nodes() {
    run(async {
        let mut site = Site::new().await;
        let script = "echo $SLURM_PROCID $SLURMD_NODENAME $SLURM_JOB_NODELIST $SLURM_JOB_NUM_NODES \
                      $SLURM_NNODES $SLURM_NTASKS $SLURM_TASKS_PER_NODE $SLURM_JOB_CPUS_PER_NODE \
                      $SLURM_CPUS_PER_TASK $TORC_NODELIST $TORC_NUM_NODES $TORC_CPUS_PER_NODE; \
                      test $SLURM_PROCID = 0 && cp $TORC_HOSTFILE copy; true";
        let step = site.gang(1, 2, script);
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
        let out = site.read("out");
        let mut lines: Vec<&str> = out.lines().collect();
        lines.sort_unstable();
        let names: Vec<&str> = site.nodes.iter().map(|node| &*node.name).collect();
        let list = torc_executors::slurm::hostlist::compress(&names);
        let expected: Vec<String> = (0..4)
            .map(|rank| {
                let node = names[rank / 2];
                format!("{rank} {node} {list} 2 2 4 2(x2) 4(x2) 2 {} 2 4,4", names.join(","))
            })
            .collect();
        assert_eq!(lines, expected);
        assert_eq!(site.read("copy"), format!("{}\n{}\n", names[0], names[1]));
    });
}

fn one_bad_rank_ends_all() {
    run(async {
        let mut site = Site::new().await;
        let step = site.gang(1, 2, "test $SLURM_PROCID = 2 && exit 3; exec sleep 1000");
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 3 });
        site.all_gone().await;
    });
}

fn a_gang_has_all_of_its_nodes() {
    run(async {
        let mut site = Site::new().await;
        let script = "python3 -c 'x = bytearray(600 << 20)' && echo $CUDA_VISIBLE_DEVICES";
        let step = site.gang(1, 1, script);
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
        assert_eq!(site.read("out"), "0,1\n0,1\n");
    });
}

fn a_gang_can_be_stopped() {
    run(async {
        let mut site = Site::new().await;
        let script = "trap 'exit 4' TERM; echo > ready$SLURM_PROCID; sleep 1000 & wait";
        site.launch(site.gang(1, 1, script)).await;
        appears(&site.path("ready0")).await;
        appears(&site.path("ready1")).await;
        site.executor.signal(step_id(1), StepSignal::TimeUp).await.expect("is taken");
        assert_eq!(site.end().await.1, Outcome::TimedOut { code: Some(4) });
        site.all_gone().await;
    });
}

const PROGRAM: &str = r#"#include <mpi.h>
#include <stdio.h>
int main(int argc, char **argv) {
    int rank, sum = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0) printf("%d\n", sum);
    MPI_Finalize();
    return 0;
}
"#;

fn ranks_find_each_other() {
    run(async {
        let mut site = Site::new().await;
        std::fs::write(site.path("sum.c"), PROGRAM).expect("written");
        let compiled = Command::new("mpicc.mpich")
            .args(["-o", &site.text_path("sum"), &site.text_path("sum.c")])
            .status();
        if !compiled.is_ok_and(|status| status.success()) {
            not_run_here("torc-executors gangs::ranks_find_each_other: there is no mpicc.mpich");
            return;
        }
        let mut step = site.gang(1, 2, "exec ./sum");
        step.layout.mpi = Some("pmi2".into());
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 0 });
        assert_eq!(site.read("out"), "6\n");
    });
}
