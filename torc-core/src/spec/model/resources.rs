//! Resource requirements and failure handlers.

use std::sync::Arc;
use std::time::Duration;

use super::{each, malformed, text_or_whole};
use crate::diagnostics::Problem;
use crate::resources::MemoryRequest;
use crate::spec::decode::Fields;
use crate::spec::fields;
use crate::spec::problems::Problems;
use crate::spec::tree::{Node, Spanned};
use crate::spec::units;
use crate::workflow::{FailureHandler, FailureRule, Requirements};

/// The runtime of requirements that state none.
const DEFAULT_RUNTIME: Duration = Duration::from_secs(3600);

/// Retries of a rule that states none.
const DEFAULT_RETRIES: u32 = 3;

/// Reads one entry of `resource_requirements`.
pub(super) fn requirements(node: Node, problems: &Problems<'_>) -> Option<Spanned<Requirements>> {
    let mut fields = Fields::open(node, &fields::REQUIREMENTS, problems)?;
    let head = fields.head();
    let name = fields.required_text("name", "small");
    if let Some(name) = name.as_ref().filter(|name| &*name.value == "default") {
        problems.push(
            Problem::error("spec::reserved-name", "the name `default` is reserved")
                .at(name.span, "reserved")
                .help("choose another name; jobs that name no requirements get 1 CPU"),
        );
    }
    let cpus = fields.whole("num_cpus");
    let cpus_place = cpus.as_ref().map_or(head, |cpus| cpus.span);
    let found = Requirements {
        name: name.as_ref().map_or_else(|| Arc::from(""), |name| Arc::from(&*name.value)),
        cpus: cpus.and_then(|cpus| u32::try_from(cpus.value).ok()).unwrap_or(1),
        gpus: fields.count("num_gpus").unwrap_or(0),
        nodes: fields.count("num_nodes").unwrap_or(1),
        memory: memory(&mut fields).map_or(MemoryRequest::ShareOfCpus, MemoryRequest::Bytes),
        runtime: Some(runtime(&mut fields).unwrap_or(DEFAULT_RUNTIME)),
        ntasks_per_node: fields.count("ntasks_per_node").unwrap_or(1),
        mpi: fields.text("mpi", "pmix").map(|text| text.value.into()),
        cpu_bind: fields.text("cpu_bind", "cores").map(|text| text.value.into()),
    };
    if found.nodes > 1 && !found.cpus.is_multiple_of(found.ntasks_per_node) {
        let (cpus, ranks) = (found.cpus, found.ntasks_per_node);
        let message = format!("{cpus} CPUs cannot be shared evenly by {ranks} ranks on a node");
        problems.push(
            Problem::error("spec::uneven-ranks", message)
                .at(cpus_place, "CPUs on each node")
                .help("make `num_cpus` a multiple of `ntasks_per_node`"),
        );
    }
    fields.finish();
    name.map(|name| Spanned::new(found, name.span))
}

fn memory(fields: &mut Fields<'_, '_>) -> Option<u64> {
    let problems = fields.problems();
    let text = text_or_whole(fields, "memory", "4g")?;
    units::memory(&text.value)
        .map_err(|error| problems.push(malformed("spec::bad-memory", text.span, error)))
        .ok()
}

fn runtime(fields: &mut Fields<'_, '_>) -> Option<Duration> {
    let problems = fields.problems();
    let text = fields.text("runtime", "PT1H")?;
    units::runtime(&text.value)
        .map_err(|error| problems.push(malformed("spec::bad-runtime", text.span, error)))
        .ok()
}

/// Reads one entry of `failure_handlers`.
pub(super) fn handler(node: Node, problems: &Problems<'_>) -> Option<Spanned<FailureHandler>> {
    let mut fields = Fields::open(node, &fields::HANDLER, problems)?;
    let name = fields.required_text("name", "retry");
    if !fields.has("rules") {
        fields.missing("rules", "[{exit_codes: [1], max_retries: 3}]");
    }
    let rules = each(&mut fields, "rules", rule);
    fields.finish();
    let name = name?;
    Some(Spanned::new(FailureHandler { name: Arc::from(&*name.value), rules }, name.span))
}

fn rule(node: Node, problems: &Problems<'_>) -> Option<FailureRule> {
    let mut fields = Fields::open(node, &fields::RULE, problems)?;
    let lists_codes = fields.has("exit_codes");
    let codes = fields.wholes("exit_codes");
    let all = fields.flag("match_all_exit_codes").is_some_and(|flag| flag.value);
    if !lists_codes && !all {
        problems.push(
            Problem::warning("spec::rule-matches-nothing", "this rule is for no exit code")
                .at(fields.head(), "no `exit_codes`")
                .help("add `exit_codes: [1]`, or `match_all_exit_codes: true`"),
        );
    }
    let script = fields.text("recovery_script", "bash recover.sh");
    let max_retries = fields.count("max_retries").unwrap_or(DEFAULT_RETRIES);
    fields.finish();
    Some(FailureRule {
        exit_codes: codes,
        match_all_exit_codes: all,
        recovery_script: script.map(|text| text.value.into()),
        max_retries,
    })
}
