//! From a fragment of a spec to jobs that a workflow grows by.
//!
//! Owns which names a fragment can refer to, what of it is there already, and which jobs that were there depend on
//! the new ones. Does not know the engine: it is told what has begun. Invariant: jobs that are there stay as they
//! are, but that those which have not begun may depend on more.

use std::collections::HashMap;
use std::sync::Arc;

use super::item::{Expansion, SharedTable};
use super::job::{self, Scope};
use super::names::Names;
use super::pattern::Patterns;
use super::{Expanded, cycle, data, graph};
use crate::addition::{Addition, Relinked, WrittenLinks};
use crate::diagnostics::{Problem, Span};
use crate::ids::JobId;
use crate::spec::Sources;
use crate::spec::model::{ActionItem, Document};
use crate::spec::parameters::{self, Parameter};
use crate::spec::problems::{Problems, excerpt};
use crate::spec::table;
use crate::spec::tree::Spanned;
use crate::workflow::{Job, JobData, Workflow};

/// What jobs are added to.
#[derive(Clone, Copy)]
pub struct Ground<'g> {
    /// The workflow.
    pub workflow: &'g Workflow,
    /// The job that adds them; `None`: somebody else.
    pub by: Option<JobId>,
    /// Whether a job has begun, so that it cannot wait for others any more.
    pub has_begun: &'g dyn Fn(JobId) -> bool,
    /// Whether an action has fired.
    pub has_fired: &'g dyn Fn(u32) -> bool,
}

/// Numbers jobs from the one after so many, and leaves out those that name nothing.
pub(crate) fn numbered(written: Vec<WrittenLinks>, before: usize) -> Vec<(JobId, WrittenLinks)> {
    let numbered = written.into_iter().enumerate();
    numbered
        .filter(|(_, links)| !links.is_empty())
        .map(|(index, links)| (JobId::from_index(before + index), links))
        .collect()
}

/// The regexes by which actions select jobs.
pub(crate) fn action_regexes(
    actions: &[ActionItem],
    is_growing: bool,
) -> Vec<(u32, Vec<Box<str>>)> {
    let actions = (0u32..).zip(actions).filter(|_| is_growing);
    actions
        .filter(|(_, action)| !action.job_name_regexes.is_empty())
        .map(|(index, action)| {
            (index, action.job_name_regexes.iter().map(|regex| regex.value.clone()).collect())
        })
        .collect()
}

/// Asks for all the files that a fragment names.
pub(crate) fn read_sources(document: Document, sources: &dyn Sources, problems: &Problems<'_>) {
    let Document { files, user_data, jobs, .. } = document;
    let shared = parameters::read_all(document.parameters, sources, problems);
    let table = document.parameters_file.map(|path| table::read(&path, sources, problems));
    let expansion = expansion(&shared, table.as_ref(), sources, problems);
    let uses = files.into_iter().map(|file| file.parameters);
    let uses = uses.chain(user_data.into_iter().map(|item| item.parameters));
    let uses = uses.chain(jobs.into_iter().map(|job| job.parameters));
    uses.for_each(|uses| drop(expansion.combinations(uses)));
}

/// `table`: the fragment's, if it has one; none in it when it is wrong.
fn expansion<'e, 'a>(
    shared: &'e [Parameter],
    table: Option<&'e Option<Vec<Parameter>>>,
    sources: &'e dyn Sources,
    problems: &'e Problems<'a>,
) -> Expansion<'e, 'a> {
    let shared_table = match table {
        Some(Some(columns)) => SharedTable::Columns(columns),
        Some(None) => SharedTable::Wrong,
        None => SharedTable::Absent,
    };
    Expansion { shared, shared_table, sources, problems }
}

/// What of a fragment is new, and the numbers of all its jobs. `None` when a problem went to `problems`.
pub(crate) fn lower(
    document: Document,
    ground: &Ground<'_>,
    sources: &dyn Sources,
    problems: &Problems<'_>,
) -> Option<(Addition, Vec<JobId>)> {
    let header = &ground.workflow.header;
    let mut addition = Addition { by: ground.by, ..Addition::default() };
    let requirements =
        Known { what: "resource requirement", unknown: "spec::unknown-requirements", problems };
    let (requirement_names, new) =
        requirements.merge(&header.requirements, document.requirements, |one| &one.name);
    addition.requirements = new;
    let handlers = Known { what: "failure handler", unknown: "spec::unknown-handler", problems };
    let (handler_names, new) =
        handlers.merge(&header.failure_handlers, document.failure_handlers, |one| &one.name);
    addition.failure_handlers = new;
    let schedulers = Known { what: "scheduler", unknown: "spec::unknown-scheduler", problems };
    let (scheduler_names, _) = schedulers.merge(&header.schedulers, Vec::new(), |one| &one.name);

    let shared = parameters::read_all(document.parameters, sources, problems);
    let table = document.parameters_file.map(|path| table::read(&path, sources, problems));
    let expansion = expansion(&shared, table.as_ref(), sources, problems);
    let known = Known { what: "file", unknown: "spec::unknown-file", problems };
    let items = with_places(data::files(document.files, &expansion));
    let (file_names, new) = known.merge(&header.files, items, |one| &one.name);
    addition.files = new;
    let known = Known { what: "user data", unknown: "spec::unknown-user-data", problems };
    let items = with_places(data::user_data(document.user_data, &expansion));
    let (data_names, new) = known.merge(&header.user_data, items, |one| &one.name);
    addition.user_data = new;

    let files = [&header.files[..], &addition.files].concat();
    let user_data = [&header.user_data[..], &addition.user_data].concat();
    let scope = Scope {
        requirements: &requirement_names,
        handlers: &handler_names,
        schedulers: &scheduler_names,
        files: (&file_names, &files),
        user_data: (&data_names, &user_data),
        problems,
    };
    let mut names = Names::new("job", "spec::unknown-job");
    for job in &ground.workflow.jobs {
        names.add(job.name.clone(), Span::default(), problems);
    }
    let lowered = job::lower(document.jobs, names, true, &expansion, &scope);
    if lowered.are_given_up() {
        return None;
    }
    grow(lowered, addition, ground, &scope)
}

/// The new jobs among those that were there: what waits for whom, and whether that can be.
fn grow(
    lowered: job::Jobs,
    mut addition: Addition,
    ground: &Ground<'_>,
    scope: &Scope<'_, '_>,
) -> Option<(Addition, Vec<JobId>)> {
    let job::Jobs { expanded, places, spans, counts, families, written } = lowered;
    let Expanded { items, names } = expanded;
    let spans = spans
        .iter()
        .zip(&counts)
        .flat_map(|(span, count)| std::iter::repeat_n(*span, *count as usize));
    let before = &ground.workflow.jobs;
    let mut all = before.clone();
    let mut new_written = Vec::new();
    for (((job, links), place), span) in items.into_iter().zip(written).zip(&places).zip(spans) {
        if (*place as usize) < before.len() {
            let known = JobId::from_index(*place as usize);
            let field = difference((&job, &links), known, ground);
            field
                .into_iter()
                .for_each(|field| scope.problems.push(added_otherwise(&job, field, span)));
        } else {
            all.push(after_adder(job, ground.by));
            new_written.push(links);
        }
    }
    follow_regexes(&mut all, &names, ground, scope);
    graph::add_implied(&mut all, scope, &names);
    addition.relinked = relinked(&mut all, ground);
    let expanded = Expanded { items: all, names };
    cycle::check(&expanded, scope.problems);
    if scope.problems.failed() {
        return None;
    }
    let Expanded { items: mut all, names } = expanded;
    addition.selected = selected(&names, ground, scope);
    addition.jobs = all.split_off(before.len());
    addition.families = families;
    addition.written = numbered(new_written, before.len());
    let iteration = |job| ground.workflow.header.growth.iteration_of(job);
    addition.iteration = 1 + ground.by.map_or(0, iteration);
    let numbers = places.into_iter().map(|place| JobId::from_index(place as usize)).collect();
    Some((addition, numbers))
}

fn after_adder(mut job: Job, adder: Option<JobId>) -> Job {
    if let Some(adder) = adder
        && let Err(place) = job.depends_on.binary_search(&adder)
    {
        let mut depends_on = std::mem::take(&mut job.depends_on).into_vec();
        depends_on.insert(place, adder);
        job.depends_on = depends_on.into();
    }
    job
}

/// Jobs that were there and have not begun depend on, read and write what their regexes select of the new.
fn follow_regexes(all: &mut [Job], names: &Names, ground: &Ground<'_>, scope: &Scope<'_, '_>) {
    let header = &ground.workflow.header;
    let jobs = new_names(names, ground.workflow.jobs.len());
    let files = new_names(scope.files.0, header.files.len());
    let user_data = new_names(scope.user_data.0, header.user_data.len());
    let mut patterns = [&jobs, &files, &files, &user_data, &user_data]
        .map(|(names, first)| (Patterns::of_growing(names, true), *first));
    for (job, links) in &header.growth.written {
        if (ground.has_begun)(*job) || job.index() >= ground.workflow.jobs.len() {
            continue;
        }
        let mut select = |kind: usize| -> Vec<u32> {
            let (patterns, first) = &mut patterns[kind];
            let regexes = links.regexes[kind].iter();
            // They were read before: none is wrong.
            let found = regexes
                .flat_map(|regex| patterns.select(regex, Span::default(), scope.problems).to_vec());
            found.map(|index| index + *first).collect()
        };
        let [depends_on, reads, writes, reads_data, writes_data] = std::array::from_fn(&mut select);
        let job = &mut all[job.index()];
        let numbers = depends_on.into_iter().map(|index| JobId::from_index(index as usize));
        job.depends_on = union(&job.depends_on, numbers);
        if [&reads, &writes, &reads_data, &writes_data].iter().any(|found| !found.is_empty()) {
            let data = job.data.get_or_insert_default();
            let JobData { input_files, output_files, input_user_data, output_user_data } =
                &mut **data;
            *input_files = union(input_files, reads);
            *output_files = union(output_files, writes);
            *input_user_data = union(input_user_data, reads_data);
            *output_user_data = union(output_user_data, writes_data);
        }
    }
}

/// The names that were not there, and the index of the first.
fn new_names(names: &Names, before: usize) -> (Names, u32) {
    let mut new = Names::new("", "");
    let problems = Problems::new("");
    for name in &names.all()[before..] {
        new.add(name.clone(), Span::default(), &problems);
    }
    (new, u32::try_from(before).unwrap_or(u32::MAX))
}

fn union<T: Ord + Copy>(known: &[T], more: impl IntoIterator<Item = T>) -> Box<[T]> {
    let mut all: Vec<T> = known.iter().copied().chain(more).collect();
    all.sort_unstable();
    all.dedup();
    all.into()
}

/// The jobs that were there and are not what they were. Those that have begun are put back as they were.
fn relinked(all: &mut [Job], ground: &Ground<'_>) -> Vec<Relinked> {
    let mut relinked = Vec::new();
    for (index, (now, before)) in all.iter_mut().zip(&ground.workflow.jobs).enumerate() {
        let job = JobId::from_index(index);
        if now.depends_on == before.depends_on && now.data == before.data {
            continue;
        }
        if (ground.has_begun)(job) {
            now.clone_from(before);
            continue;
        }
        relinked.push(Relinked { job, depends_on: now.depends_on.clone(), data: now.data.clone() });
    }
    relinked
}

/// The new jobs that actions select which have not fired.
fn selected(names: &Names, ground: &Ground<'_>, scope: &Scope<'_, '_>) -> Vec<(u32, Vec<JobId>)> {
    let (new, first) = new_names(names, ground.workflow.jobs.len());
    let mut patterns = Patterns::of_growing(&new, true);
    let regexes = &ground.workflow.header.growth.action_regexes;
    let open = regexes.iter().filter(|(action, _)| !(ground.has_fired)(*action));
    let mut of_action = |(action, regexes): &(u32, Vec<Box<str>>)| {
        let found = regexes
            .iter()
            .flat_map(|regex| patterns.select(regex, Span::default(), scope.problems).to_vec());
        let jobs = union(&[], found.map(|index| JobId::from_index((index + first) as usize)));
        (!jobs.is_empty()).then(|| (*action, jobs.into_vec()))
    };
    open.filter_map(&mut of_action).collect()
}

/// The first field in which a job is not what the one of its name is that is there already.
fn difference(
    (job, links): (&Job, &WrittenLinks),
    number: JobId,
    ground: &Ground<'_>,
) -> Option<&'static str> {
    let known = &ground.workflow.jobs[number.index()];
    let fields = [
        ("command", known.command == job.command),
        ("invocation_script", known.invocation_script == job.invocation_script),
        ("env", known.env == job.env),
        ("priority", known.priority == job.priority),
        ("resource_requirements", known.requirements == job.requirements),
        ("labels", known.labels == job.labels),
        ("failure_handler", known.failure_handler == job.failure_handler),
        ("scheduler", known.scheduler == job.scheduler),
        (
            "cancel_on_blocking_job_failure",
            known.cancel_on_blocking_job_failure == job.cancel_on_blocking_job_failure,
        ),
        ("stdio", known.stdio == job.stdio),
    ];
    let field = fields.iter().find(|(_, is_same)| !is_same).map(|(field, _)| *field);
    let none = WrittenLinks::default();
    let known_links = ground.workflow.header.growth.written_of(number).unwrap_or(&none);
    field.or_else(|| known_links.difference(links))
}

fn added_otherwise(job: &Job, field: &str, span: Span) -> Problem {
    let message =
        format!("there is a job `{}` already, with another `{field}`", excerpt(&job.name));
    Problem::error("spec::added-otherwise", message)
        .at(span, "this job")
        .help("give the new job another name; only one that is the same is not added again")
}

/// Things of one kind that are there already, by name.
struct Known<'p, 'a> {
    what: &'static str,
    unknown: &'static str,
    problems: &'p Problems<'a>,
}

impl Known<'_, '_> {
    /// The names of all, and those that were not there. One that was there must be the very same.
    fn merge<T: PartialEq>(
        &self,
        before: &[T],
        items: Vec<Spanned<T>>,
        name: impl Fn(&T) -> &Arc<str>,
    ) -> (Names, Vec<T>) {
        let mut names = Names::new(self.what, self.unknown);
        let mut known: HashMap<Arc<str>, &T> = HashMap::new();
        for item in before {
            names.add(name(item).clone(), Span::default(), self.problems);
            known.insert(name(item).clone(), item);
        }
        let mut new = Vec::new();
        for Spanned { value, span } in items {
            match known.get(name(&value)) {
                None => {
                    names.add(name(&value).clone(), span, self.problems);
                    new.push(value);
                }
                Some(same) if **same == value => {}
                Some(_) => {
                    let what = self.what;
                    let message = format!(
                        "there is a {what} `{}` already, and it is another",
                        excerpt(name(&value))
                    );
                    self.problems.push(
                        Problem::error("spec::added-otherwise", message)
                            .at(span, "this name")
                            .help("use the one that is there without defining it, or choose another name"),
                    );
                }
            }
        }
        (names, new)
    }
}

fn with_places<T>(expanded: Expanded<T>) -> Vec<Spanned<T>> {
    let places = expanded.names.places().to_vec();
    expanded.items.into_iter().zip(places).map(|(item, span)| Spanned::new(item, span)).collect()
}
