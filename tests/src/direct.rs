//! What tests of mode direct submit.

/// A workflow in mode direct, with one allocation of so many nodes for 20 minutes. What follows are more
/// kinds of resource requirements, if any, and then the jobs.
pub fn direct_spec(nodes: u32, rest: &str) -> String {
    format!(
        "name: w
slurm_schedulers: [{{name: cpu, account: science, nodes: {nodes}, walltime: '00:20:00'}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu, \
start_one_worker_per_node: true}}]
execution_config: {{mode: direct, sigterm_lead_seconds: 5, sigkill_headroom_seconds: 10}}
compute_node_wait_for_new_jobs_seconds: 5
resource_requirements:
- {{name: one, num_cpus: 1, memory: 100m, runtime: PT5M}}
- {{name: five, num_cpus: 5, memory: 1g, runtime: PT5M}}
- {{name: whole, num_cpus: 8, memory: 1g, runtime: PT5M}}
- {{name: wide, num_cpus: 8, num_nodes: 2, memory: 1g, runtime: PT5M}}
- {{name: ranks, num_cpus: 8, num_nodes: 2, ntasks_per_node: 2, memory: 1g, runtime: PT5M}}
{rest}"
    )
}
