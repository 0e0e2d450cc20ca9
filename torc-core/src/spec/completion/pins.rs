//! Which entries of `jobs` get which `scheduler`, and how an action names the jobs it waits for.

use std::collections::HashSet;

use regex::Regex;

use crate::ids::JobId;
use crate::plan::Plan;
use crate::spec::lower::Lowered;
use crate::spec::template::written_tokens;
use crate::workflow::Job;

/// What becomes of one entry of `jobs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pin {
    /// Nothing: no job of it is planned, or there is only one scheduler.
    Stays,
    /// All of its jobs belong to this scheduler.
    To(String),
    /// Its jobs belong to several.
    Several,
}

/// By entry of `jobs`.
pub(super) fn pins(before: &Lowered, plan: &Plan) -> Vec<Pin> {
    let mut scheduler_of: Vec<Option<&str>> = vec![None; before.workflow.jobs.len()];
    let mut names: HashSet<&str> =
        before.workflow.header.schedulers.iter().map(|known| &*known.name).collect();
    for stage in &plan.stages {
        names.insert(&stage.scheduler.name);
        for job in &stage.jobs {
            scheduler_of[job.index()] = Some(&stage.scheduler.name);
        }
    }
    let mut rest = &scheduler_of[..];
    let mut next = |count: u32| {
        let (jobs, after) = rest.split_at(rest.len().min(count as usize));
        rest = after;
        if names.len() < 2 {
            return Pin::Stays;
        }
        match jobs.first() {
            Some(first) if jobs.iter().any(|job| job != first) => Pin::Several,
            Some(Some(scheduler)) => Pin::To((*scheduler).to_owned()),
            _ => Pin::Stays,
        }
    };
    before.jobs_of_items.iter().map(|count| next(*count)).collect()
}

/// Jobs by names and by regexes that match exactly them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) names: Vec<String>,
    pub(super) regexes: Vec<String>,
}

/// How to name these jobs (ascending). A large entry of `jobs` is named by a regex made of its name,
/// if that matches no other job. `item_names` are the names of the entries as written.
pub(super) fn selection(wanted: &[JobId], before: &Lowered, item_names: &[&str]) -> Selection {
    const MANY: usize = 4;
    // Each regex is tried on all names.
    const MOST_TRIES: usize = 20_000_000;
    let jobs = &before.workflow.jobs;
    let mut regexes_left = MOST_TRIES / jobs.len().max(1);
    let wanted: HashSet<usize> = wanted.iter().map(|job| job.index()).collect();
    let mut found = Selection::default();
    let mut first = 0;
    for (count, name) in before.jobs_of_items.iter().zip(item_names) {
        let range = first..(first + *count as usize).min(jobs.len());
        first = range.end;
        let is_whole = range.len() >= MANY && range.clone().all(|job| wanted.contains(&job));
        let is_worth_a_try = is_whole && regexes_left > 0;
        regexes_left -= usize::from(is_worth_a_try);
        match is_worth_a_try.then(|| exact_regex(name, jobs, &wanted)).flatten() {
            Some(regex) => found.regexes.push(regex),
            None => {
                let selected = range.filter(|job| wanted.contains(job));
                found.names.extend(selected.map(|job| jobs[job].name.to_string()));
            }
        }
    }
    found
}

/// The name with every token as a wildcard, if that matches only wanted jobs.
fn exact_regex(name: &str, jobs: &[Job], wanted: &HashSet<usize>) -> Option<String> {
    let mut pattern = "^".to_owned();
    let mut end = 0;
    for (token, _, _) in written_tokens(name) {
        pattern.push_str(&regex::escape(name.get(end..token.start)?));
        pattern.push_str(".+");
        end = token.end;
    }
    pattern.push_str(&regex::escape(&name[end..]));
    pattern.push('$');
    let regex = Regex::new(&pattern).ok()?;
    let is_exact = jobs
        .iter()
        .enumerate()
        .all(|(index, job)| wanted.contains(&index) || !regex.is_match(&job.name));
    is_exact.then_some(pattern)
}
