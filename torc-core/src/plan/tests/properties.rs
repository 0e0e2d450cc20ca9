//! What holds for every plan.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::plan::testing::{choices, cluster, spec};
use crate::plan::{Stage, complete};
use crate::resources::{MemoryRequest, Request, START_UP_GRACE};
use crate::workflow::{Job, Requirements, Trigger};

/// Each job is in one stage, or can never run.
fn every_job_has_one_fate(workflow: &Workflow, plan: &Plan) -> Result<(), TestCaseError> {
    let mut count = vec![0; workflow.jobs.len()];
    let served = plan.stages.iter().flat_map(|stage| &stage.jobs);
    for job in served.chain(plan.never.iter().flat_map(|never| &never.jobs)) {
        count[job.index()] += 1;
    }
    prop_assert!(count.iter().all(|count| *count == 1), "{count:?}");
    Ok(())
}

fn text<'s>(stage: &'s Stage, name: &str) -> &'s str {
    stage.scheduler.settings.get(name).and_then(|value| value.as_str()).unwrap_or("")
}

/// The nodes that Slurm may give for the settings of a stage.
fn eligible<'c>(stage: &Stage, partition: &'c PartitionShape) -> Vec<&'c NodeShape> {
    let number = |text: &str| {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        digits.parse::<u64>().unwrap_or(0)
    };
    let cpus = number(text(stage, "extra"));
    let gpus = number(text(stage, "gres"));
    let memory = number(text(stage, "mem")) << 20;
    partition
        .nodes
        .iter()
        .filter(|shape| {
            u64::from(shape.cpus) >= cpus && u64::from(shape.gpus) >= gpus && shape.memory >= memory
        })
        .collect()
}

fn fits(needs: &Requirements, shape: &NodeShape) -> bool {
    let memory = match needs.memory {
        MemoryRequest::Bytes(bytes) => bytes,
        MemoryRequest::ShareOfCpus => 0,
    };
    shape.cpus >= needs.cpus && shape.gpus >= needs.gpus && shape.memory >= memory
}

/// Whatever nodes are given, all jobs of the stage can run there, and the partition has them.
fn stages_can_run_their_jobs(
    workflow: &Workflow,
    partitions: &[PartitionShape],
    plan: &Plan,
) -> Result<(), TestCaseError> {
    for stage in &plan.stages {
        let name = stage.partition.as_deref();
        let partition = partitions.iter().find(|known| Some(&*known.name) == name);
        let partition = partition.expect("all partitions are known here");
        let shapes = eligible(stage, partition);
        let there: u32 = shapes.iter().map(|shape| shape.count).sum();
        prop_assert!(stage.chosen.nodes >= 1 && stage.chosen.num_allocations >= 1);
        prop_assert!(stage.chosen.nodes <= there.min(partition.max_nodes.unwrap_or(u32::MAX)));
        prop_assert!(partition.max_walltime.is_none_or(|most| stage.chosen.walltime <= most));
        let labels: Vec<Box<str>> = labels(stage);
        for job in &stage.jobs {
            let job = &workflow.jobs[job.index()];
            let needs = &workflow.header.requirements[job.requirements as usize];
            prop_assert!(shapes.iter().all(|shape| fits(needs, shape)), "{}", job.name);
            prop_assert!(needs.nodes <= stage.chosen.nodes);
            let longest = stage.chosen.walltime + START_UP_GRACE;
            prop_assert!(needs.runtime.is_none_or(|runtime| runtime <= longest));
            prop_assert!(request(job).may_run_under(Some(&stage.scheduler.name), &labels));
        }
    }
    Ok(())
}

fn labels(stage: &Stage) -> Vec<Box<str>> {
    let labels = stage.scheduler.settings.get("labels").and_then(|labels| labels.as_array());
    labels.into_iter().flatten().map(|label| label.as_str().expect("text").into()).collect()
}

fn request(job: &Job) -> Request {
    Request {
        priority: 0,
        scheduler: None,
        labels: job.labels.clone().unwrap_or_else(|| [].into()),
        cpus: 1,
        memory: MemoryRequest::ShareOfCpus,
        gpus: 0,
        nodes: 1,
        ntasks_per_node: 1,
        runtime: None,
    }
}

/// If a stage's allocations are granted when it asks, and nothing else ever, all jobs run.
fn nobody_waits_for_ever(workflow: &Workflow, plan: &Plan) -> Result<(), TestCaseError> {
    let never = plan.never.iter().flat_map(|never| &never.jobs);
    let mut done: HashSet<usize> = never.map(|job| job.index()).collect();
    let mut asked: HashSet<usize> = HashSet::new();
    let is_ready = |job: usize, done: &HashSet<usize>| {
        workflow.jobs[job].depends_on.iter().all(|before| done.contains(&before.index()))
    };
    loop {
        let before = (done.len(), asked.len());
        for (index, stage) in plan.stages.iter().enumerate() {
            let fires = match &stage.trigger {
                Trigger::OnWorkflowStart => true,
                Trigger::OnJobsReady(jobs) => jobs.iter().all(|job| is_ready(job.index(), &done)),
                _ => false,
            };
            if fires {
                asked.insert(index);
            }
            if asked.contains(&index) {
                let ready = stage.jobs.iter().map(|job| job.index());
                done.extend(ready.filter(|job| is_ready(*job, &done)).collect::<Vec<_>>());
            }
        }
        if (done.len(), asked.len()) == before {
            prop_assert_eq!(done.len(), workflow.jobs.len());
            return Ok(());
        }
    }
}

/// Stages come after the stages that they need, and know them.
fn stages_are_in_order(workflow: &Workflow, plan: &Plan) -> Result<(), TestCaseError> {
    let mut stage_of = vec![None; workflow.jobs.len()];
    for (index, stage) in plan.stages.iter().enumerate() {
        for job in &stage.jobs {
            stage_of[job.index()] = Some(index);
        }
    }
    for (index, stage) in plan.stages.iter().enumerate() {
        prop_assert!(stage.after.iter().all(|before| *before < index));
        for job in &stage.jobs {
            for before in &workflow.jobs[job.index()].depends_on {
                let Some(before) = stage_of[before.index()] else { continue };
                prop_assert!(before == index || stage.after.contains(&before));
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn plans_are_sound(spec in spec(), partitions in cluster(), options in choices()) {
        let workflow = workflow(&spec.to_string());
        let found = plan(&workflow, &partitions, &options).expect("it can be planned");
        every_job_has_one_fate(&workflow, &found)?;
        stages_can_run_their_jobs(&workflow, &partitions, &found)?;
        stages_are_in_order(&workflow, &found)?;
        nobody_waits_for_ever(&workflow, &found)?;
        prop_assert!(found.totals.node_hours <= found.totals.node_hours_at_most * 1.04 + 0.2);
        prop_assert!(found.stages.iter().all(|stage| (0.0..=1.0).contains(&stage.chosen.utilisation)));
    }

    #[test]
    fn plans_are_stable(spec in spec(), partitions in cluster(), options in choices()) {
        let workflow = workflow(&spec.to_string());
        let found = plan(&workflow, &partitions, &options).expect("it can be planned");
        let twice = plan(&workflow, &partitions, &options).expect("it can be planned");
        prop_assert_eq!(&twice, &found);
        let completed = complete(&workflow, &found);
        prop_assert_eq!(completed.header.actions.len(), found.stages.len());
        if !found.stages.is_empty() {
            let again = plan(&completed, &partitions, &options).expect("it can be planned");
            prop_assert_eq!(&again, &Plan::default());
            prop_assert_eq!(complete(&completed, &again), completed);
        }
    }
}
