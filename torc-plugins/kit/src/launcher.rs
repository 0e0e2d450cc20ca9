//! What a launcher must do: write every step down, whole, and the same way each time.
//!
//! Owns: the checks of [`Launcher`]. Does not know: what any launcher's options mean.
//!
//! How the words of a command can be seen in a plan: most launchers pass them on as they are, after words of their own
//! (srun, mpirun, a container's `exec`; with or without a shell between). Such a plan has the words of the step side
//! by side in its argv. A launcher whose plan of a *plain* command is not like that, since it writes the command into a
//! file or into one word, cannot be judged by its plans: of it is only asked that plain words are there, in order;
//! what becomes of odd ones is then shown by the checks of the executor that uses it.

use torc_core::traits::{LaunchPlan, Launcher, LauncherError, StdioPaths, Step, StepNode};

use crate::check::Check;
use crate::finding::{Finding, Verdict, broken, ensure, same};
use crate::steps::{ODD_WORDS, step};

/// Where the files of a plan would lie. Nothing is written.
const FOLDER: &str = "/nowhere/launch_wf1_j1_r1_a1";

/// A launcher to look at.
#[derive(Clone, Copy)]
pub struct LauncherSite<'a> {
    /// Makes one, or says why it cannot be made. Called from several threads.
    pub make: &'a (dyn Fn() -> Result<Box<dyn Launcher>, String> + Sync),
}

pub(crate) const CHECKS: &[Check] = &[
    Check::launcher(
        "launcher.simple_step",
        "A plain step on one node is planned, with all words of its command in order.",
        simple_step,
    ),
    Check::launcher(
        "launcher.argv_arrives_whole",
        "Blanks, quotes, line ends, `$` and empty words of a command are what they were.",
        argv_arrives_whole,
    ),
    Check::launcher(
        "launcher.program_can_be_found",
        "The program of a plan is absolute, or a bare name for the PATH.",
        program_can_be_found,
    ),
    Check::launcher(
        "launcher.plan_can_be_executed",
        "No word, variable or file name of a plan is one that the system would not take.",
        plan_can_be_executed,
    ),
    Check::launcher(
        "launcher.files_stay_inside",
        "The files of a plan are in the step's own folder.",
        files_stay_inside,
    ),
    Check::launcher(
        "launcher.any_number_of_ranks",
        "From 1 to 1024 ranks on any number of nodes there is a plan with the whole command, or a refusal.",
        any_number_of_ranks,
    ),
    Check::launcher(
        "launcher.same_step_same_plan",
        "A plan depends on its step alone, not on what was planned before.",
        same_step_same_plan,
    ),
    Check::launcher(
        "launcher.many_threads",
        "Instances in several threads at once plan as one alone does.",
        many_threads,
    ),
    Check::launcher(
        "launcher.refusals_have_words",
        "A step that it cannot express is refused in words, under the launcher's name.",
        refusals_have_words,
    ),
];

const PLAIN: [&str; 3] = ["torc-kit-program", "torc-kit-first", "torc-kit-second"];

/// (nodes, ranks on each).
const SHAPES: [(u32, u32); 11] = [
    (1, 1),
    (1, 16),
    (2, 1),
    (2, 2),
    (3, 5),
    (4, 32),
    (8, 128),
    (16, 64),
    (32, 1),
    (128, 8),
    (1024, 1),
];

const THREADS: usize = 8;
const ROUNDS: usize = 10;

fn node(number: u32, cpus: u32) -> StepNode {
    StepNode {
        name: format!("node{number}").into(),
        cores: (0..cpus).collect(),
        gpus: Box::default(),
        memory: 8 << 30,
    }
}

fn on_nodes((nodes, ranks): (u32, u32), argv: &[&str]) -> Step {
    let mut step = step(1, argv);
    step.nodes = (1..=nodes).map(|number| node(number, ranks)).collect();
    step.layout.ntasks_per_node = if nodes > 1 { ranks } else { 1 };
    step.layout.cpus_per_node = ranks;
    step.stdio = StdioPaths {
        stdout: Some("/out/job.o".into()),
        stderr: Some("/out/job.e".into()),
        delete_on_success: false,
    };
    step.env.insert("TORC_KIT".to_owned(), "a value".to_owned());
    step.working_dir = "/work/a folder".into();
    step
}

fn plain() -> Step {
    on_nodes((1, 1), &PLAIN)
}

fn make(site: &LauncherSite<'_>) -> Result<Box<dyn Launcher>, Finding> {
    (site.make)().map_err(|words| broken("a launcher", words))
}

fn plan(launcher: &dyn Launcher, step: &Step, what: &str) -> Result<LaunchPlan, Finding> {
    launcher
        .plan(step, FOLDER)
        .map_err(|error| broken(format!("a plan for {what}"), format!("the refusal \"{error}\"")))
}

/// Whether the words of the step are side by side in the plan.
fn passes_on(plan: &LaunchPlan, step: &Step) -> bool {
    plan.argv.windows(step.argv.len().max(1)).any(|words| words == step.argv)
}

/// Everything in a plan that a command can be written into.
fn text_of(plan: &LaunchPlan) -> String {
    let env = plan.env.values();
    let files = plan.files.iter().map(|(_, content)| content);
    plan.argv.iter().chain(env).chain(files).map(|word| format!("{word}\n")).collect()
}

fn has_in_order(text: &str, words: &[&str]) -> bool {
    let mut rest = text;
    words.iter().all(|word| match rest.split_once(word) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

fn simple_step(site: &LauncherSite<'_>) -> Verdict {
    let launcher = make(site)?;
    ensure(!launcher.name().trim().is_empty(), "the launcher to have a name", || {
        format!("{:?}", launcher.name())
    })?;
    let step = plain();
    let plan = plan(&*launcher, &step, "a plain step on one node")?;
    ensure(!plan.argv.is_empty(), "a program in the plan", || "an empty argv".to_owned())?;
    let is_there = passes_on(&plan, &step) || has_in_order(&text_of(&plan), &PLAIN);
    ensure(is_there, &format!("the words {PLAIN:?} in order in the plan"), || format!("{plan:?}"))
}

fn argv_arrives_whole(site: &LauncherSite<'_>) -> Verdict {
    let launcher = make(site)?;
    let step = plain();
    if !passes_on(&plan(&*launcher, &step, "a plain step on one node")?, &step) {
        return Err(Finding::NotShown(
            "this launcher does not pass the words of a command on side by side, so its plans do not show it"
                .to_owned(),
        ));
    }
    // Each alone first, so that a finding names the one.
    let alone = ODD_WORDS.iter().map(|&word| vec![PLAIN[0], word, PLAIN[2]]);
    let all = [PLAIN[0]].into_iter().chain(ODD_WORDS).collect();
    for argv in alone.chain([all]) {
        for shape in [(1, 1), (2, 2)] {
            let step = on_nodes(shape, &argv);
            let plan = match launcher.plan(&step, FOLDER) {
                Ok(plan) => plan,
                // It may not know gangs at all.
                Err(_) if shape.0 > 1 => continue,
                Err(error) => {
                    let expected = format!("a plan for the command {argv:?}");
                    return Err(broken(expected, format!("the refusal \"{error}\"")));
                }
            };
            ensure(passes_on(&plan, &step), &format!("{argv:?} side by side in the plan"), || {
                format!("{:?}", plan.argv)
            })?;
        }
    }
    Ok(())
}

fn program_can_be_found(site: &LauncherSite<'_>) -> Verdict {
    let launcher = make(site)?;
    for argv in [PLAIN, ["/bin/program", "a", "b"]] {
        let plan = plan(&*launcher, &on_nodes((1, 1), &argv), "a plain step on one node")?;
        let program = plan.argv.first().map_or("", String::as_str);
        let is_found = !program.is_empty() && (program.starts_with('/') || !program.contains('/'));
        ensure(is_found, "the program of the plan to be absolute or a bare name", || {
            format!("{program:?}")
        })?;
    }
    Ok(())
}

/// Every plan that it makes of steps of all shapes.
fn all_plans(launcher: &dyn Launcher) -> Vec<((u32, u32), Result<LaunchPlan, LauncherError>)> {
    let argv: Vec<&str> = PLAIN.into_iter().chain(["it's $odd", ""]).collect();
    SHAPES.iter().map(|&shape| (shape, launcher.plan(&on_nodes(shape, &argv), FOLDER))).collect()
}

fn plan_can_be_executed(site: &LauncherSite<'_>) -> Verdict {
    let launcher = make(site)?;
    for (shape, planned) in all_plans(&*launcher) {
        let Ok(plan) = planned else { continue };
        let files = plan.files.iter().map(|(path, _)| path);
        let mut words = plan.argv.iter().chain(plan.env.values()).chain(files);
        if let Some(word) = words.find(|word| word.contains('\0')) {
            let expected = format!("no NUL in the plan of {shape:?} nodes and ranks");
            return Err(broken(expected, format!("{word:?}")));
        }
        let is_name = |name: &String| !name.is_empty() && !name.contains(['=', '\0']);
        if let Some(name) = plan.env.keys().find(|name| !is_name(name)) {
            return Err(broken("variables with names that can be set", format!("{name:?}")));
        }
    }
    Ok(())
}

fn files_stay_inside(site: &LauncherSite<'_>) -> Verdict {
    let launcher = make(site)?;
    for (_, planned) in all_plans(&*launcher) {
        let files = planned.map(|plan| plan.files).unwrap_or_default();
        for (path, _) in files {
            let mut parts = path.split('/');
            let is_inside = !path.is_empty() && parts.all(|part| !part.is_empty() && part != "..");
            ensure(is_inside, "paths of files to stay in the step's own folder", || {
                format!("{path:?}")
            })?;
        }
    }
    Ok(())
}

fn any_number_of_ranks(site: &LauncherSite<'_>) -> Verdict {
    let launcher = make(site)?;
    let simple = plain();
    let is_shown = passes_on(&plan(&*launcher, &simple, "a plain step on one node")?, &simple);
    for (nodes, ranks) in SHAPES {
        let step = on_nodes((nodes, ranks), &PLAIN);
        let what = format!("{nodes} nodes with {ranks} ranks each");
        let plan = match launcher.plan(&step, FOLDER) {
            Ok(plan) => plan,
            Err(_) if nodes > 1 => continue,
            Err(error) => {
                return Err(broken(format!("a plan for {what}"), format!("\"{error}\"")));
            }
        };
        let is_there =
            if is_shown { passes_on(&plan, &step) } else { has_in_order(&text_of(&plan), &PLAIN) };
        ensure(
            is_there && !plan.argv.is_empty(),
            &format!("the whole command for {what}"),
            || format!("{plan:?}"),
        )?;
    }
    Ok(())
}

fn same_step_same_plan(site: &LauncherSite<'_>) -> Verdict {
    let (launcher, other) = (make(site)?, make(site)?);
    let first = all_plans(&*launcher);
    for (again, (shape, before)) in all_plans(&*launcher).into_iter().zip(&first) {
        same(&format!("the second plan for {shape:?} nodes and ranks"), before, &again.1)?;
    }
    // In another order, and with nothing before it.
    for (shape, before) in first.iter().rev() {
        let argv: Vec<&str> = PLAIN.into_iter().chain(["it's $odd", ""]).collect();
        let again = other.plan(&on_nodes(*shape, &argv), FOLDER);
        same(&format!("another instance's plan for {shape:?} nodes and ranks"), before, &again)?;
    }
    Ok(())
}

fn many_threads(site: &LauncherSite<'_>) -> Verdict {
    let alone = all_plans(&*make(site)?);
    let work = || -> Verdict {
        let launcher = make(site)?;
        for _ in 0..ROUNDS {
            same("the plans of one of several threads", &alone, &all_plans(&*launcher))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        // All of them first: the panic of one that nobody joined would be the scope's.
        let joined: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        let panicked = |_| Err(broken("plans from several threads", "a panic"));
        joined.into_iter().try_for_each(|verdict| verdict.unwrap_or_else(panicked))
    })
}

/// Steps that some launcher cannot express.
fn awkward_steps() -> Vec<(&'static str, Step)> {
    let with = |change: &dyn Fn(&mut Step)| {
        let mut step = on_nodes((2, 4), &PLAIN);
        change(&mut step);
        step
    };
    vec![
        ("no program", with(&|step| step.argv.clear())),
        ("no nodes", with(&|step| step.nodes.clear())),
        ("several nodes", with(&|_| {})),
        ("ranks that cannot share the CPUs equally", with(&|step| step.layout.ntasks_per_node = 3)),
        ("no CPUs", with(&|step| step.layout.cpus_per_node = 0)),
        ("a backslash in a path", with(&|step| step.stdio.stdout = Some("/a\\b".into()))),
        ("a line end in a path", with(&|step| step.stdio.stderr = Some("/a\nb".into()))),
        ("an MPI that is not there", with(&|step| step.layout.mpi = Some("no-such-mpi".into()))),
        ("1024 nodes", on_nodes((1024, 1), &PLAIN)),
    ]
}

fn refusals_have_words(site: &LauncherSite<'_>) -> Verdict {
    let launcher = make(site)?;
    for (what, step) in awkward_steps() {
        let Err(error) = launcher.plan(&step, FOLDER) else { continue };
        let LauncherError::Unsupported { launcher: name, reason } = &error;
        same("the name in a refusal", launcher.name(), name.as_str())?;
        ensure(!reason.trim().is_empty(), &format!("a refusal of {what} to say why"), || {
            format!("{error:?}")
        })?;
    }
    Ok(())
}
