//! Launchers in mode direct on a real Slurm: templates, and a plugin in C, with real MPI programs.

use std::fs;

use torc_tests::{Cluster, PluginFolder, compile_allreduce, direct_spec, nodes, text};

#[test]
fn a_template_starts_the_ranks_of_each_job_on_its_nodes() {
    let Some(cluster) = Cluster::acquire() else { return };
    let launcher = "mode: direct, launcher: {argv: [srun, --mpi=none, '--ntasks={ntasks}', '--cpus-per-task={cpus_per_task}', \
                    '{command}']},";
    let jobs = "jobs:
- {name: wide, command: 'echo $SLURMD_NODENAME $SLURM_CPUS_PER_TASK', resource_requirements: ranks}
- {name: single, command: 'echo $SLURMD_NODENAME $SLURM_CPUS_PER_TASK', resource_requirements: five}";
    let place = cluster.place(&direct_spec(3, jobs).replace("mode: direct,", launcher));
    place.submit_and_wait().expect(0).says("2 completed");
    let lines = |job: &str| {
        let attempt = &place.place.attempts(job)[0];
        let output = fs::read_to_string(text(attempt, "stdout")).expect("it has output");
        let mut lines: Vec<String> = output.lines().map(str::to_owned).collect();
        lines.sort();
        let nodes: Vec<String> = nodes(attempt).into_iter().map(str::to_owned).collect();
        (lines, nodes)
    };
    let (found, on) = lines("wide");
    let expected = [&on[0], &on[0], &on[1], &on[1]].map(|node| format!("{node} 4"));
    assert_eq!(found, expected, "two ranks on each of its nodes");
    let (found, on) = lines("single");
    assert_eq!(found, [format!("{} 5", on[0])], "one rank");
}

#[test]
fn a_plugin_in_c_starts_the_ranks_of_an_mpi_program() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = "jobs:
- {name: 'wide{i}', command: ./allreduce, resource_requirements: ranks, parameters: {i: '1:2'}}
- {name: single, command: 'echo alone', resource_requirements: five}
plugins: [{name: hydra, program: mpiexec.mpich}]";
    let spec = direct_spec(4, jobs).replace("mode: direct,", "mode: direct, launcher: hydra,");
    let place = cluster.place(&spec);
    compile_allreduce(&place.place);
    place.place.torc(&["submit", "w.yaml"]).expect(5).says("there is no plugin `hydra`");
    let folder = PluginFolder::of(&place.place);
    folder.build_example_in_c("hydra");
    place.submit_and_wait().expect(0).says("3 completed");
    for job in ["wide1", "wide2"] {
        let attempt = &place.place.attempts(job)[0];
        let output = fs::read_to_string(text(attempt, "stdout")).expect("it has output");
        let ranks =
            output.lines().filter(|line| line.contains(" of 4 ") && line.ends_with(" sum 6"));
        assert_eq!(ranks.count(), 4, "they found each other: {output}");
    }
    // Its proxies are a step of Slurm's on each node of the job.
    let handle = text(&place.allocations()[0], "handle").to_owned();
    place.until("the steps in the accounting", || {
        let steps = cluster.accounting(&handle, "JobName,NNodes");
        let of_jobs = steps.iter().filter(|step| step[0].starts_with("torc_wf1_"));
        let on_two = of_jobs.filter(|step| step[1] == "2").count();
        (on_two == 2).then_some(())
    });
}
