//! What a spec would say to sbatch, and what of it cannot be said.
//!
//! Owns where that is shown. What can be said is known where scripts are made; found here, it is a problem
//! of the spec like any other, before anything is stored or asked for.

use serde_json::json;
use torc_core::diagnostics::Problem;
use torc_core::spec::Loaded;
use torc_executors::slurm::script;

const CODE: &str = "spec::sbatch-option";
/// Characters of a message: words of the spec are in it, and they may be long.
const LONGEST: usize = 400;

/// The errors in what a spec says to sbatch.
pub(crate) fn problems(loaded: &Loaded) -> Vec<Problem> {
    let Loaded { workflow, slurm_defaults, slurm_defaults_place, scheduler_places, .. } = loaded;
    let defaults = script::check("", &json!({"defaults": slurm_defaults})).err();
    let schedulers = workflow.header.schedulers.iter().zip(scheduler_places);
    let of_schedulers =
        schedulers.filter(|(one, _)| one.kind == "slurm").filter_map(|(one, at)| {
            let mut settings = one.settings.clone();
            if let Some(fields) = settings.as_object_mut().filter(|_| defaults.is_some()) {
                // What is wrong with them is said once.
                fields.remove("defaults");
            }
            let error = script::check(&one.name, &settings).err()?;
            let problem = Problem::error(CODE, shown(&error.to_string()));
            Some(problem.at(*at, "this scheduler").help(
                "change it in the fields of this scheduler, mostly in `extra`, or leave it out",
            ))
        });
    let of_defaults = defaults.iter().map(|error| {
        let problem = Problem::error(CODE, shown(&error.problem.to_string()));
        let problem = problem.help("remove this option from `slurm_defaults`, or correct it");
        match slurm_defaults_place {
            Some(place) => problem.at(*place, "of all schedulers"),
            None => problem,
        }
    });
    of_defaults.chain(of_schedulers).collect()
}

/// On one line, and not too long.
fn shown(message: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_debug().collect() } else { vec![c] };
    let mut shown: String = message.chars().take(LONGEST).flat_map(escaped).collect();
    if message.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
