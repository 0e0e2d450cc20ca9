//! Jobs, expanded and with their names resolved.
//!
//! All the names are known before the first reference is resolved, so the order of the spec does
//! not matter.

use std::collections::HashSet;
use std::sync::Arc;

use super::data::named;
use super::item::{Combination, Expansion, Pattern};
use super::names::Names;
use super::pattern::Patterns;
use super::substitute::{substitute, with_values};
use super::{Expanded, nul_byte};
use crate::addition::WrittenLinks;
use crate::diagnostics::{Problem, Span};
use crate::ids::JobId;
use crate::spec::model::{JobItem, Links, Relation};
use crate::spec::parameters::Combinations;
use crate::spec::problems::Problems;
use crate::spec::template::Target;
use crate::spec::tree::{Key, Text};
use crate::workflow::{Env, Family, File, Job, JobData, Stdio, UserData};

/// Linux passes one argument of at most 128 KiB, its NUL included (MAX_ARG_STRLEN, execve(2)).
const LONGEST_COMMAND: usize = 131_071;

/// More dependencies than this are refused: they alone would take hundreds of megabytes.
pub(crate) const MOST_DEPENDENCIES: usize = 50_000_000;

/// Bytes of all commands together: a slip in a range must not take the machine's memory.
const MOST_COMMAND_BYTES: usize = 1 << 30;

/// What jobs can refer to.
pub(crate) struct Scope<'s, 'a> {
    pub(crate) requirements: &'s Names,
    pub(crate) handlers: &'s Names,
    pub(crate) schedulers: &'s Names,
    pub(crate) files: (&'s Names, &'s [File]),
    pub(crate) user_data: (&'s Names, &'s [UserData]),
    pub(crate) problems: &'s Problems<'a>,
}

impl Scope<'_, '_> {
    /// The names that a relation is about.
    pub(crate) fn names(&self, relation: Relation) -> &Names {
        if relation.is_about_files() { self.files.0 } else { self.user_data.0 }
    }
}

/// The jobs of a spec, expanded and resolved.
pub(crate) struct Jobs {
    /// What was there before is among the names, and not among the items.
    pub(crate) expanded: Expanded<Job>,
    /// The index of each item's name.
    pub(crate) places: Vec<u32>,
    /// Where the name of each entry of the spec is written.
    pub(crate) spans: Vec<Span>,
    /// How many jobs each of them stands for.
    pub(crate) counts: Vec<u32>,
    /// Those that parameters made.
    pub(crate) families: Vec<Family>,
    /// How they name what they refer to, in their order; empty where that need not be known.
    pub(crate) written: Vec<WrittenLinks>,
}

impl Jobs {
    /// Whether they were given up as too many, which was reported.
    pub(crate) fn are_given_up(&self) -> bool {
        self.expanded.items.len() < self.places.len()
    }
}

/// Expands the jobs and resolves all they refer to. `names` are those of jobs that are there already: whoever has one
/// of these is at its place. `is_growing`: how they name what they refer to is to be known.
pub(crate) fn lower(
    items: Vec<JobItem>,
    mut names: Names,
    is_growing: bool,
    expansion: &Expansion<'_, '_>,
    scope: &Scope<'_, '_>,
) -> Jobs {
    let before = names.all().len();
    let mut places = Vec::new();
    let mut known_again = HashSet::new();
    let mut expanded = Vec::with_capacity(items.len());
    let mut families = Vec::new();
    for mut item in items {
        let has_parameters = item.parameters.is_some();
        let all = expansion.combinations(item.parameters.take());
        if all.count() == 0 {
            names.mark_incomplete();
        }
        if expansion.count(names.all().len() as u64, &all, item.name.span).is_none() {
            break;
        }
        names.reserve(usize::try_from(all.count()).unwrap_or(0));
        let first = names.all().len();
        let name = Pattern::new(&item.name, &all, scope.problems);
        for number in 0..all.count() {
            let one = Combination { all: &all, number, problems: scope.problems };
            let known = (before > 0).then(|| names.find(&name.fill(&one, Target::Text))).flatten();
            let known =
                known.filter(|place| (*place as usize) < before && known_again.insert(*place));
            places.push(known.unwrap_or(u32::try_from(names.all().len()).unwrap_or(u32::MAX)));
            if known.is_none() {
                named("a job", &name, &one, &mut names);
            }
        }
        // One of which some were there is in several pieces.
        if has_parameters && (names.all().len() - first) as u64 == all.count() {
            families.push(Family {
                name: item.name.value.clone(),
                first: JobId::from_index(first),
                jobs: u32::try_from(all.count()).unwrap_or(u32::MAX),
            });
        }
        expanded.push((item, all));
    }
    let spans = expanded.iter().map(|(item, _)| item.name.span).collect();
    let counts =
        expanded.iter().map(|(_, all)| u32::try_from(all.count()).unwrap_or(u32::MAX)).collect();
    let mut builder = Builder {
        scope,
        names: &names,
        job_patterns: Patterns::of_growing(&names, is_growing),
        file_patterns: Patterns::of_growing(scope.files.0, is_growing),
        data_patterns: Patterns::of_growing(scope.user_data.0, is_growing),
        last: Last::default(),
        jobs: Vec::with_capacity(places.len()),
        places: &places,
        written: is_growing.then(Vec::new),
        dependencies: 0,
        command_bytes: 0,
    };
    for (item, all) in expanded {
        builder.item(&item, &all);
    }
    let Builder { jobs: items, written, .. } = builder;
    let written = written.unwrap_or_default();
    Jobs { expanded: Expanded { items, names }, places, spans, counts, families, written }
}

/// What the jobs before this one had: equal things are shared.
#[derive(Default)]
struct Last {
    env: Option<Arc<Env>>,
    labels: Option<Arc<[Box<str>]>>,
    stdio: Option<Arc<Stdio>>,
}

fn share<T: ?Sized + PartialEq>(last: &mut Option<Arc<T>>, value: Arc<T>) -> Arc<T> {
    match last {
        Some(known) if **known == *value => known.clone(),
        _ => last.insert(value).clone(),
    }
}

struct Builder<'b, 'a> {
    scope: &'b Scope<'b, 'a>,
    names: &'b Names,
    job_patterns: Patterns<'b>,
    file_patterns: Patterns<'b>,
    data_patterns: Patterns<'b>,
    last: Last,
    jobs: Vec<Job>,
    /// The index of each job's name.
    places: &'b [u32],
    /// `None`: not to be known.
    written: Option<Vec<WrittenLinks>>,
    dependencies: usize,
    /// Bytes of the commands so far.
    command_bytes: usize,
}

/// An index that all jobs of an item share, or a name that depends on the combination.
enum Reference<'t> {
    Fixed(Option<u32>),
    Each(Pattern<'t>),
}

/// The parts of an item that are looked at again for each of its jobs.
struct Plan<'i> {
    command: Pattern<'i>,
    script: Option<Pattern<'i>>,
    requirements: Reference<'i>,
    handler: Reference<'i>,
    scheduler: Reference<'i>,
    env: Vec<(&'i Key, Pattern<'i>)>,
    labels: Vec<Pattern<'i>>,
    links: Option<LinkPlan<'i>>,
    stdio: Option<Arc<Stdio>>,
}

struct LinkPlan<'i> {
    depends_on: Vec<Pattern<'i>>,
    depends_on_regexes: Vec<Pattern<'i>>,
    data: [(Vec<Pattern<'i>>, Vec<Pattern<'i>>); 4],
}

impl LinkPlan<'_> {
    /// What is written of one combination, with its parameters filled in.
    fn filled_in(&self, one: &Combination<'_, '_>) -> WrittenLinks {
        let filled = |patterns: &[Pattern<'_>], target: Target| {
            let texts = patterns.iter().map(|pattern| Box::from(pattern.fill(one, target)));
            let mut texts: Vec<Box<str>> = texts.collect();
            texts.sort_unstable();
            texts.dedup();
            texts
        };
        let [reads, writes, reads_data, writes_data] = &self.data;
        let names = [&self.depends_on, &reads.0, &writes.0, &reads_data.0, &writes_data.0];
        let regexes =
            [&self.depends_on_regexes, &reads.1, &writes.1, &reads_data.1, &writes_data.1];
        WrittenLinks {
            names: names.map(|patterns| filled(patterns, Target::Text)),
            regexes: regexes.map(|patterns| filled(patterns, Target::Regex)),
        }
    }
}

impl Builder<'_, '_> {
    fn item(&mut self, item: &JobItem, all: &Combinations) {
        let problems = self.scope.problems;
        let plan = self.plan(item, all);
        let varies = plan.env.iter().any(|(_, value)| !value.is_constant())
            || plan.labels.iter().any(|label| !label.is_constant());
        let mut settings = None;
        for number in 0..all.count() {
            if self.dependencies > MOST_DEPENDENCIES {
                problems.push(too_many_dependencies(item.name.span));
                return;
            }
            let one = Combination { all, number, problems };
            if varies || settings.is_none() {
                settings = Some((self.env(&plan, &one), self.labels(&plan, &one)));
            }
            let (env, labels) = settings.clone().unwrap_or_default();
            let job = self.job(item, &plan, &one);
            self.command_bytes +=
                job.command.len() + job.invocation_script.as_ref().map_or(0, |script| script.len());
            if self.command_bytes > MOST_COMMAND_BYTES {
                problems.push(too_much_text(item.command.span));
                return;
            }
            self.jobs.push(Job { env, labels, ..job });
        }
    }

    fn plan<'i>(&self, item: &'i JobItem, all: &Combinations) -> Plan<'i> {
        let (scope, problems) = (self.scope, self.scope.problems);
        let pattern = |text: &'i Text| Pattern::new(text, all, problems);
        let patterns = |texts: &'i [Text]| texts.iter().map(pattern).collect::<Vec<_>>();
        let reference = |text: Option<&'i Text>, names: &Names| match text.map(pattern) {
            None => Reference::Fixed(None),
            Some(name) if name.is_constant() && all.count() > 0 => {
                let one = Combination { all, number: 0, problems };
                let text = name.fill(&one, Target::Text);
                Reference::Fixed(names.resolve(&text, name.span(), problems))
            }
            Some(name) => Reference::Each(name),
        };
        Plan {
            command: pattern(&item.command),
            script: item.invocation_script.as_deref().map(pattern),
            requirements: reference(item.requirements.as_ref(), scope.requirements),
            handler: reference(item.failure_handler.as_deref(), scope.handlers),
            scheduler: reference(item.scheduler.as_deref(), scope.schedulers),
            env: item.env.iter().map(|(name, value)| (name, pattern(value))).collect(),
            labels: patterns(&item.labels),
            links: item.links.as_deref().map(|links: &'i Links| LinkPlan {
                depends_on: patterns(&links.depends_on),
                depends_on_regexes: patterns(&links.depends_on_regexes),
                data: links
                    .data
                    .each_ref()
                    .map(|(names, regexes)| (patterns(names), patterns(regexes))),
            }),
            stdio: item.stdio.map(Arc::new),
        }
    }

    fn job(&mut self, item: &JobItem, plan: &Plan<'_>, one: &Combination<'_, '_>) -> Job {
        let index = self.places[self.jobs.len()];
        let scope = self.scope;
        if let Some(written) = &mut self.written {
            written.push(
                plan.links
                    .as_ref()
                    .map_or_else(WrittenLinks::default, |links| links.filled_in(one)),
            );
        }
        let (depends_on, mut used) = match &plan.links {
            Some(links) => (self.depends_on(links, index, one), self.used(links, one)),
            None => Default::default(),
        };
        self.dependencies += depends_on.len();
        let mut text = |pattern: &Pattern<'_>| -> Box<str> {
            let filled = pattern.fill(one, Target::Text);
            substitute(&filled, pattern.span(), scope, &mut used).into()
        };
        let command = text(&plan.command);
        let invocation_script = plan.script.as_ref().map(text);
        let (shown, script) = (
            with_values(&command, scope),
            invocation_script.as_deref().map(|text| with_values(text, scope)),
        );
        check_command(&shown, script.as_deref(), plan.command.span(), scope.problems);
        Job {
            name: self.names.all().get(index as usize).cloned().unwrap_or_else(|| "".into()),
            command,
            invocation_script,
            env: None,
            priority: item.priority,
            requirements: resolve(&plan.requirements, scope.requirements, one).unwrap_or(0),
            labels: None,
            failure_handler: resolve(&plan.handler, scope.handlers, one),
            scheduler: resolve(&plan.scheduler, scope.schedulers, one),
            cancel_on_blocking_job_failure: item.cancel_on_blocking_job_failure,
            depends_on,
            data: job_data(used),
            stdio: plan.stdio.clone().map(|stdio| share(&mut self.last.stdio, stdio)),
        }
    }

    fn env(&mut self, plan: &Plan<'_>, one: &Combination<'_, '_>) -> Option<Arc<Env>> {
        if plan.env.is_empty() {
            return None;
        }
        let value = |value: &Pattern<'_>| Box::from(value.fill(one, Target::Text));
        let env: Env =
            plan.env.iter().map(|(name, text)| (name.value.clone(), value(text))).collect();
        Some(share(&mut self.last.env, Arc::new(env)))
    }

    fn labels(&mut self, plan: &Plan<'_>, one: &Combination<'_, '_>) -> Option<Arc<[Box<str>]>> {
        if plan.labels.is_empty() {
            return None;
        }
        let mut labels: Vec<Box<str>> =
            plan.labels.iter().map(|label| label.fill(one, Target::Text).into()).collect();
        labels.sort_unstable();
        labels.dedup();
        Some(share(&mut self.last.labels, labels.into()))
    }

    fn depends_on(
        &mut self,
        links: &LinkPlan<'_>,
        this: u32,
        one: &Combination<'_, '_>,
    ) -> Box<[JobId]> {
        let problems = one.problems;
        let mut found = Vec::new();
        for name in &links.depends_on {
            let text = name.fill(one, Target::Text);
            found.extend(self.names.resolve(&text, name.span(), problems));
        }
        for regex in &links.depends_on_regexes {
            let text = regex.fill(one, Target::Regex);
            let selected = self.job_patterns.select(&text, regex.span(), problems);
            found.extend(selected.iter().copied().filter(|job| *job != this));
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|job| JobId::from_index(job as usize)).collect()
    }

    fn used(&mut self, links: &LinkPlan<'_>, one: &Combination<'_, '_>) -> [Vec<u32>; 4] {
        Relation::ALL.map(|relation| {
            let (names, regexes) = &links.data[relation as usize];
            let mut found = Vec::new();
            for name in names {
                let text = name.fill(one, Target::Text);
                let known = self.scope.names(relation);
                found.extend(known.resolve(&text, name.span(), one.problems));
            }
            for regex in regexes {
                let text = regex.fill(one, Target::Regex);
                let patterns = if relation.is_about_files() {
                    &mut self.file_patterns
                } else {
                    &mut self.data_patterns
                };
                found.extend(patterns.select(&text, regex.span(), one.problems).iter());
            }
            found
        })
    }
}

fn resolve(reference: &Reference<'_>, names: &Names, one: &Combination<'_, '_>) -> Option<u32> {
    match reference {
        Reference::Fixed(index) => *index,
        Reference::Each(name) => {
            names.resolve(&name.fill(one, Target::Text), name.span(), one.problems)
        }
    }
}

fn job_data(used: [Vec<u32>; 4]) -> Option<Box<JobData>> {
    if used.iter().all(Vec::is_empty) {
        return None;
    }
    let [input_files, output_files, input_user_data, output_user_data] = used.map(|mut indices| {
        indices.sort_unstable();
        indices.dedup();
        indices.into_boxed_slice()
    });
    Some(Box::new(JobData { input_files, output_files, input_user_data, output_user_data }))
}

fn check_command(command: &str, script: Option<&str>, span: Span, problems: &Problems<'_>) {
    let script = script.unwrap_or_default();
    if command.contains('\0') || script.contains('\0') {
        problems.push(nul_byte(span));
    }
    let length = command.len() + script.len() + 1;
    if length > LONGEST_COMMAND {
        let message = format!("the command has {length} bytes, but Linux allows {LONGEST_COMMAND}");
        let end = span.end.min(span.start + 80);
        problems.push(
            Problem::error("spec::bad-command", message)
                .at(Span { end, ..span }, "too long")
                .help("put it into a script file, and run that: `command: bash steps.sh`"),
        );
    }
}

fn too_much_text(span: Span) -> Problem {
    let message = format!("the commands have more than {MOST_COMMAND_BYTES} bytes together");
    Problem::error("spec::too-many", message)
        .at(span, "the limit is reached at this job")
        .help("put what the commands share into a script file")
}

pub(crate) fn too_many_dependencies(span: Span) -> Problem {
    let message = format!("the jobs have more than {MOST_DEPENDENCIES} dependencies");
    Problem::error("spec::too-many", message)
        .at(span, "the limit is reached at this job")
        .help("let one job depend on the first group, and the second group on that job")
}
