//! Placers that are plugins of a server, on a real Slurm.

use torc_tests::{Cluster, ClusterPlace, PluginFolder};

/// Eight jobs of two CPUs on two nodes, placed by this plugin.
fn place<'c>(
    cluster: &'c Cluster,
    placer: &str,
    settings: &str,
) -> (ClusterPlace<'c>, PluginFolder) {
    let place = cluster.place(&format!(
        "name: w
execution_config: {{placer: {placer}}}
plugins: [{{name: {placer}{settings}}}]
slurm_schedulers: [{{name: main, account: science, nodes: 2, walltime: '00:10:00'}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: main}}]
resource_requirements: [{{name: two, num_cpus: 2, memory: 100m, runtime: PT1M}}]
parameters: {{n: '1:8'}}
jobs: [{{name: 'j{{n}}', command: 'echo {{n}} >> ran', use_parameters: [n], resource_requirements: two}}]"
    ));
    let folder = PluginFolder::of(&place.place);
    for name in ["faulty_placer", "wrapped"] {
        folder.take_example(name);
    }
    (place, folder)
}

#[test]
fn a_server_lets_a_plugin_place_the_jobs_and_replaces_one_that_fails() {
    let Some(cluster) = Cluster::acquire() else { return };
    for (placer, settings, words) in [
        ("wrapped", "", None),
        ("faulty_placer", ", fault: panics, after: 2", Some("plan: it panicked: a bug in a plan")),
    ] {
        let (place, _folder) = place(&cluster, placer, settings);
        place.submit_and_wait().expect(0).says("8 completed");
        assert_eq!(place.place.results().len(), 8, "each ran once");
        let log = place.place.read("torc_output/server.log");
        let said = format!("plugin `{placer}` places no jobs any more, torc's own placer does: ");
        match words {
            None => assert!(!log.contains(&said), "{log}"),
            Some(words) => assert!(log.contains(&format!("{said}{words}")), "{log}"),
        }
    }
}

#[test]
fn a_server_refuses_a_workflow_whose_placer_it_does_not_have() {
    let Some(cluster) = Cluster::acquire() else { return };
    let (place, _folder) = place(&cluster, "not_there", "");
    place
        .submit_and_wait()
        .expect(5)
        .says("there is no plugin `not_there`")
        .says("`pack`, `spread`");
}
