//! How long jobs run, from what was measured of jobs with the same names.
//!
//! Owns: what is taken for a job that was not measured. Does not know: where the measurements come
//! from. Invariant: a measured job runs as long as it was measured to.

use std::time::Duration;

use crate::workflow::Workflow;

/// What is known of the jobs of a workflow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// By job; `None`: neither it nor any like it was measured.
    pub runtimes: Vec<Option<Duration>>,
    /// Jobs that were measured themselves.
    pub themselves: usize,
    /// Jobs that run as long as the others of the same requirements did on average.
    pub by_likeness: usize,
}

/// How long the jobs run. `runtime_of`: what was measured of the job with this name.
pub fn measured(workflow: &Workflow, runtime_of: impl Fn(&str) -> Option<Duration>) -> Measured {
    let mut runtimes: Vec<Option<Duration>> =
        workflow.jobs.iter().map(|job| runtime_of(&job.name)).collect();
    let mut sums = vec![(Duration::ZERO, 0_u32); workflow.header.requirements.len()];
    for (job, runtime) in workflow.jobs.iter().zip(&runtimes) {
        let (sum, count) = &mut sums[job.requirements as usize];
        if let Some(runtime) = runtime {
            (*sum, *count) = (sum.saturating_add(*runtime), *count + 1);
        }
    }
    let themselves = runtimes.iter().flatten().count();
    let mut by_likeness = 0;
    for (job, runtime) in workflow.jobs.iter().zip(&mut runtimes) {
        let (sum, count) = sums[job.requirements as usize];
        if runtime.is_none() && count > 0 {
            *runtime = Some(sum / count);
            by_likeness += 1;
        }
    }
    Measured { runtimes, themselves, by_likeness }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::tests::workflow;

    #[test]
    fn jobs_that_were_not_measured_run_like_their_kind() {
        let workflow = workflow(
            "
name: w
resource_requirements: [{name: r, num_cpus: 2}, {name: s}]
jobs:
  - {name: a, command: x, resource_requirements: r}
  - {name: b, command: x, resource_requirements: r}
  - {name: c, command: x, resource_requirements: r}
  - {name: d, command: x, resource_requirements: s}",
        );
        let found = measured(&workflow, |name| match name {
            "a" => Some(Duration::from_secs(10)),
            "c" => Some(Duration::from_secs(20)),
            _ => None,
        });
        let runtimes = [Some(10), Some(15), Some(20), None].map(|s| s.map(Duration::from_secs));
        let expected = Measured { runtimes: runtimes.to_vec(), themselves: 2, by_likeness: 1 };
        assert_eq!(found, expected);
    }
}
