//! Executors that are plugins, in allocations of a real Slurm: the worker of each loads one.

use torc_tests::{Cluster, ClusterPlace, PluginFolder};

/// Four jobs on one node, each of which says how many processes it sees.
fn place<'c>(cluster: &'c Cluster, mode: &str) -> (ClusterPlace<'c>, PluginFolder) {
    let place = cluster.place(&format!(
        "name: w
execution_config: {{mode: {mode}}}
plugins: [{{name: {mode}, private: [/var/tmp]}}]
slurm_schedulers: [{{name: main, account: science, walltime: '00:10:00'}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: main}}]
resource_requirements: [{{name: one, num_cpus: 1, memory: 100m, runtime: PT1M}}]
parameters: {{n: '1:4'}}
jobs: [{{name: 'j{{n}}', command: 'ls -d /proc/[0-9]* | wc -l; echo > /var/tmp/torc_{{n}}', use_parameters: [n],
         resource_requirements: one}}]"
    ));
    let folder = PluginFolder::of(&place.place);
    folder.take_example("enclosed");
    (place, folder)
}

#[test]
fn the_worker_of_an_allocation_has_a_plugin_run_the_jobs() {
    let Some(cluster) = Cluster::acquire() else { return };
    let (place, _folder) = place(&cluster, "enclosed");
    place.submit_and_wait().expect(0).says("4 completed");
    assert_eq!(place.place.results().len(), 4, "each ran once");
    for job in 1..=4 {
        let seen: u32 =
            place.place.output(&format!("wf1_j{job}_r1_a1.o")).trim().parse().expect("a number");
        assert!(seen < 10, "job {job} sees {seen} processes");
        let outside = format!("/var/tmp/torc_{job}");
        assert!(!std::path::Path::new(&outside).exists(), "{outside} was in the job's own folder");
    }
    let allocations = place.place.json(&["allocations"]);
    assert_eq!(allocations.as_array().expect("a list").len(), 1);
}

#[test]
fn a_workflow_whose_executor_is_not_there_is_not_submitted() {
    let Some(cluster) = Cluster::acquire() else { return };
    let (place, _folder) = place(&cluster, "not_there");
    place.submit_and_wait().expect(5).says("there is no plugin `not_there`");
}
