//! What each task of a step executes: a few lines of shell that make its surroundings right, and then
//! the job's own program in their place. Pure.

use torc_core::resources::NodeInventory;
use torc_core::traits::Step;

use super::sights;

/// Called as `sh -c SCRIPT torc FOLDER [NAME=VALUE]... -- PROGRAM [ARG]...`.
///
/// It enters the folder itself: Slurm's own `--chdir` falls back to /tmp where the folder is missing.
/// The variables are those that srun would have taken for its own options.
const TASK: &str = r#"cd -- "$1" || exit 126
shift
while [ "$1" != -- ]; do export "$1"; shift; done
shift
exec "$@""#;

/// Put before [`TASK`] where both streams go to one file: Slurm's own way has a pipe for each, and so
/// mixes up their order.
const JOIN_STREAMS: &str = "exec 2>&1\n";

/// Put before [`TASK`] where the step is shown all devices of its node: those at the positions `@`,
/// counted from 1, are its own.
const NARROW: &str = r#"for name in CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK; do
eval "all=\${$name-}"
[ -z "$all" ] || export "$name=$(printf %s "$all" | cut -d, -f@)"
done
"#;

/// What srun is to start as each task. `whole` is all of the step's node, where the step is shown that.
pub(super) fn argv(step: &Step, whole: Option<&NodeInventory>) -> Vec<String> {
    let mut script = String::new();
    if step.stdio.stdout.is_some() && step.stdio.stdout == step.stdio.stderr {
        script.push_str(JOIN_STREAMS);
    }
    if let Some(positions) = whole.and_then(|node| positions(step, node)) {
        script.push_str(&NARROW.replace('@', &positions));
    }
    script.push_str(TASK);
    let mut argv =
        ["/bin/sh", "-c", &script, "torc", &step.working_dir].map(str::to_owned).to_vec();
    if whole.is_some() {
        let cpus = sights::cpus_list(step);
        argv.extend(
            ["SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"].map(|name| format!("{name}={cpus}")),
        );
    }
    argv.extend(sights::inside(step));
    argv.push("--".to_owned());
    argv.extend(step.argv.iter().cloned());
    argv
}

/// The positions of the step's devices among all of the node's, where they are not all.
fn positions(step: &Step, whole: &NodeInventory) -> Option<String> {
    let own = &step.nodes.first()?.gpus;
    if own.is_empty() || own.len() == whole.gpus.len() {
        return None;
    }
    let position = |gpu| whole.gpus.iter().position(|known| known == gpu);
    let positions = own.iter().filter_map(position).map(|position| (position + 1).to_string());
    Some(positions.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::super::launcher::tests::single;
    use super::*;

    fn run(argv: &[String]) -> Output {
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).env("SLURM_NNODES", "17").env("CUDA_VISIBLE_DEVICES", "a,b,c");
        command.env_remove("ROCR_VISIBLE_DEVICES").output().expect("a shell runs")
    }

    #[test]
    fn streams_into_one_file_keep_their_order() {
        let script = |step: &Step| argv(step, None)[2].clone();
        let mut step = single();
        assert_eq!(script(&step), TASK);
        step.stdio.stderr = step.stdio.stdout.clone();
        assert_eq!(script(&step), format!("{JOIN_STREAMS}{TASK}"));
        (step.stdio.stdout, step.stdio.stderr) = (None, None);
        assert_eq!(script(&step), TASK);
    }

    #[test]
    fn the_task_sets_variables_and_enters_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = |step: &Step| run(&argv(step, None));
        let mut step = single();
        step.working_dir = folder.path().to_str().expect("is text").into();
        step.env.insert("SLURM_HINT".into(), "a 'b' $c\nd".into());
        step.argv = ["printf", "%s|", "--", "a b"].map(str::to_owned).to_vec();
        assert_eq!(String::from_utf8_lossy(&run(&step).stdout), "--|a b|");
        step.argv =
            ["bash", "-c", "echo \"$PWD|$SLURM_NNODES|$SLURM_HINT\""].map(str::to_owned).to_vec();
        let expected = format!("{}|1|a 'b' $c\nd\n", step.working_dir);
        assert_eq!(String::from_utf8_lossy(&run(&step).stdout), expected);
        step.working_dir = "/no/such/folder".into();
        let output = run(&step);
        assert_eq!(output.status.code(), Some(126));
        assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/folder"));
    }

    #[test]
    fn of_a_shared_node_a_step_sees_its_own_devices() {
        let whole = NodeInventory {
            name: "node3".into(),
            cores: (0..8).collect(),
            threads_per_core: 1,
            slots: None,
            memory: 1,
            gpus: ["0", "1", "2"].map(Box::from).into(),
        };
        let check = |gpus: &[&str], expected: &str| {
            let mut step = single();
            step.working_dir = "/".into();
            step.nodes[0].gpus = gpus.iter().map(|&gpu| gpu.into()).collect();
            step.argv[2] = "echo $CUDA_VISIBLE_DEVICES ${ROCR_VISIBLE_DEVICES-none} \
                            $SLURM_CPUS_PER_TASK $SLURM_CPUS_ON_NODE"
                .to_owned();
            let output = run(&argv(&step, Some(&whole)));
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected, "{gpus:?}");
        };
        check(&["2", "0"], "a,c none 4 4");
        check(&["1"], "b none 4 4");
        check(&["0", "1", "2"], "a,b,c none 4 4");
        check(&[], "a,b,c none 4 4");
    }
}
