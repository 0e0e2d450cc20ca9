//! The private srun: a folder with small shell scripts that stand in for Slurm's srun in a job.
//!
//! Environment alone does not keep an srun to a job's nodes, so the script excludes the others of the
//! allocation, whatever nodes the job itself names. It also notes that it was called, with this host and the
//! process id that the real srun will have: only then is Slurm asked, when the job has ended, whether
//! steps of its are left. It owns the folder; it starts nothing and asks nothing.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use torc_core::ids::StepId;
use torc_core::traits::Step;

use super::notes::Notes;
use crate::kept::StartError;
use crate::slurm::hostlist;

/// By these a job tells the scripts about itself.
const STEP: &str = "TORC_SRUN_STEP";
const NODES: &str = "TORC_SRUN_NODES";
const OTHERS: &str = "TORC_SRUN_OTHERS";
const DEVICES: &str = "TORC_SRUN_DEVICES";

/// What takes the place of a step's name for commands of actions.
pub(super) const COMMAND: &str = "command";

/// `--exclude` alone leaves exactly the job's nodes, and lets it choose among them. A job's own `--exclude`
/// would replace it; then the nodes are named, too.
///
/// `@notes@` stands for the folder of notes, `@srun@` for the real srun, both quoted. A variable that the job may have
/// exported must not be used: the real srun passes it on.
const SRUN: &str = r#"#!/bin/sh
# Starts steps of a job of torc's on its own nodes only: the real srun does not know that the
# allocation's other nodes are other jobs'.
if [ -n "$TORC_SRUN_STEP" ]; then
    read -r torc_srun_host < /proc/sys/kernel/hostname
    echo "${torc_srun_host%%.*} $$" >> @notes@/"$TORC_SRUN_STEP"
fi 2> /dev/null
if [ -n "$TORC_SRUN_OTHERS" ]; then
    for torc_srun_word in "$@"; do
        case $torc_srun_word in
        -x* | --exclude*)
            set -- --nodelist="$TORC_SRUN_NODES" "$@"
            break
            ;;
        esac
    done
    set -- --exclude="$TORC_SRUN_OTHERS" "$@"
fi
[ -z "$TORC_SRUN_STEP" ] || set -- --job-name="torc_$TORC_SRUN_STEP" "$@"
# Two jobs that share a node would be given the same CPUs of it; without a number all are the step's.
[ "$SLURM_JOB_NUM_NODES" != 1 ] || unset SLURM_CPUS_PER_TASK
exec @srun@ --overlap "$@"
"#;

/// What Hydra is told to start its proxies with: its option for ssh comes first if it was asked for that,
/// and none of srun's own calls of it begins like that. How many CPUs a rank gets is not the proxies' matter.
///
/// `@srun@` stands for the private srun, quoted.
const HYDRA: &str = r#"#!/bin/sh
# Starts the proxies of Hydra (mpiexec of MPICH and Intel MPI) on the nodes of a job of torc's only.
case $1 in
-x | -X | -q) exec ssh "$@" ;;
esac
unset SLURM_CPUS_PER_TASK
exec @srun@ "$@"
"#;

/// What Slurm executes before each task of a job on one node, and whose words change the task's environment
/// (srun(1), `--task-prolog`): its steps are given all GPUs of the node, whoever has them.
const PROLOG: &str = r#"#!/bin/sh
# Shows the steps of a job of torc's the GPUs that the job has.
for name in CUDA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK; do
    eval "[ -n \"\${$name-}\" ]" || continue
    if [ -n "$TORC_SRUN_DEVICES" ]; then echo "export $name=$TORC_SRUN_DEVICES"; else echo "unset $name"; fi
done
"#;

/// The folder of a node worker.
#[derive(Clone, Debug)]
pub(super) struct Sruns {
    folder: String,
    hydra: String,
    prolog: String,
}

impl Sruns {
    /// Writes the scripts into the folder `scratch`. Both it and that of the notes exist.
    ///
    /// # Errors
    /// When that is impossible.
    pub(super) fn prepare(scratch: &Path, srun: &Path, notes: &Notes) -> Result<Self, StartError> {
        let failed = |source| StartError::Scratch { path: scratch.to_owned(), source };
        let scratch = fs::canonicalize(scratch).map_err(failed)?;
        let notes = fs::canonicalize(notes.sruns()).map_err(failed)?;
        let folder = scratch.join("bin");
        let (own, hydra, prolog) =
            (folder.join("srun"), scratch.join("hydra"), scratch.join("prolog"));
        fs::create_dir_all(&folder).map_err(failed)?;
        let script = SRUN.replace("@notes@", &quoted(&notes)?).replace("@srun@", &quoted(srun)?);
        write_program(&own, &script).map_err(failed)?;
        let script = HYDRA.replace("@srun@", &quoted(&own)?);
        write_program(&hydra, &script).map_err(failed)?;
        write_program(&prolog, PROLOG).map_err(failed)?;
        let [folder, hydra, prolog] =
            [folder, hydra, prolog].map(|path| text(&path).map(str::to_owned));
        Ok(Self { folder: folder?, hydra: hydra?, prolog: prolog? })
    }

    /// What comes first in the PATH of jobs.
    pub(super) fn folder(&self) -> &str {
        &self.folder
    }

    /// What Hydra starts its proxies with.
    pub(super) fn for_hydra(&self) -> &str {
        &self.hydra
    }

    /// What Slurm executes before each task of a job that shares its node.
    pub(super) fn prolog(&self) -> &str {
        &self.prolog
    }
}

fn text(path: &Path) -> Result<&str, StartError> {
    path.to_str().ok_or_else(|| StartError::ScratchName(path.to_owned()))
}

/// As a word of a shell script.
fn quoted(path: &Path) -> Result<String, StartError> {
    // Only a NUL cannot be quoted, and no path has one.
    let word = shlex::try_quote(text(path)?);
    Ok(word.map_err(|_| StartError::ScratchName(path.to_owned()))?.into_owned())
}

/// In one step, since jobs of a worker that was here before may be executing it.
fn write_program(path: &Path, script: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, script)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    fs::rename(new, path)
}

/// The name that Slurm's steps of a step or a command have. No name of a step of torc's own.
fn name(caller: &str) -> String {
    format!("torc_{caller}")
}

/// Whether a step of Slurm's has the name of those that commands of actions start.
pub(super) fn is_of_a_command(step: &str) -> bool {
    step.strip_prefix("torc_") == Some(COMMAND)
}

/// The step that started a step of Slurm's, if this is the name of one.
pub(super) fn started_by(name: &str) -> Option<StepId> {
    name.strip_prefix("torc_")?.parse().ok()
}

/// The options that keep an srun of a step or a command to its nodes, if these are all others of the allocation.
pub(super) fn options(caller: &str, others: &str) -> Vec<String> {
    let mut options = vec!["--overlap".to_owned(), format!("--job-name={}", name(caller))];
    options.extend((!others.is_empty()).then(|| format!("--exclude={others}")));
    options
}

/// What the private srun goes by when this one calls it.
pub(super) fn orders(step: &Step, caller: &str, others: String) -> [(String, String); 4] {
    let names: Vec<&str> = step.nodes.iter().map(|node| &*node.name).collect();
    let devices = match step.nodes.as_slice() {
        [node] => node.gpus.join(","),
        _ => String::new(),
    };
    [
        (STEP.to_owned(), caller.to_owned()),
        (NODES.to_owned(), hostlist::compress(&names)),
        (OTHERS.to_owned(), others),
        (DEVICES.to_owned(), devices),
    ]
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tempfile::TempDir;

    use super::*;
    use crate::slurm::host_name;
    use crate::slurm::launcher::tests::single;
    use crate::slurm::steps::Srun;

    /// Prints its process id and its arguments, each on a line.
    const FAKE: &str = "#!/bin/sh\necho $$ \"$SLURM_CPUS_PER_TASK\"\nprintf '%s\\n' \"$@\"\n";

    struct Site {
        folder: TempDir,
        notes: Notes,
        sruns: Sruns,
    }

    impl Site {
        fn new() -> Self {
            let folder = TempDir::with_prefix("it's a").expect("a folder");
            let fake = folder.path().join("real srun");
            write_program(&fake, FAKE).expect("is written");
            let notes = Notes::of(folder.path());
            notes.prepare().expect("is made");
            let sruns = Sruns::prepare(folder.path(), &fake, &notes).expect("is written");
            Self { folder, notes, sruns }
        }

        /// What the real srun was given, after its process id.
        fn run(&self, program: &str, args: &[&str], env: &[(&str, &str)]) -> (u32, Vec<String>) {
            let mut command = Command::new(program);
            command.args(args).env_remove(STEP).env_remove(OTHERS).envs(env.iter().copied());
            let output = command.output().expect("starts");
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
            let text = String::from_utf8(output.stdout).expect("text");
            let mut lines = text.lines();
            let pid = lines.next().and_then(|line| line.split(' ').next()?.parse().ok());
            let pid = pid.expect("a process id");
            (pid, lines.map(str::to_owned).collect())
        }

        fn srun(&self, args: &[&str], env: &[(&str, &str)]) -> (u32, Vec<String>) {
            self.run(&format!("{}/srun", self.sruns.folder()), args, env)
        }
    }

    const JOB: [(&str, &str); 3] =
        [(STEP, "wf1_j2_r1_a1"), (NODES, "node[3-4]"), (OTHERS, "node[1-2]")];

    #[test]
    fn the_other_nodes_are_excluded() {
        let site = Site::new();
        let check = |args: &[&str], added: &[&str]| {
            let expected: Vec<&str> = ["--overlap", "--job-name=torc_wf1_j2_r1_a1"]
                .iter()
                .chain(added)
                .chain(args)
                .copied()
                .collect();
            assert_eq!(site.srun(args, &JOB).1, expected);
        };
        let excluded = "--exclude=node[1-2]";
        check(&[], &[excluded]);
        check(&["-n1", "a b", "*", ""], &[excluded]);
        check(&["--exact", "--exclusive", "x"], &[excluded]);
        for own in ["-xnode3", "--exclude=node3"] {
            check(&["-n1", own, "x"], &[excluded, "--nodelist=node[3-4]"]);
        }
        check(&["-x", "node3", "x"], &[excluded, "--nodelist=node[3-4]"]);
    }

    #[test]
    fn a_call_is_noted_with_the_host_and_the_process_id() {
        let site = Site::new();
        let step = single().id;
        let pids = [site.srun(&["a"], &JOB).0, site.srun(&["b"], &JOB).0];
        let expected = pids.map(|pid| Srun { host: host_name(), pid });
        assert_eq!(site.notes.called_by(step), Some(expected.to_vec()));
    }

    #[test]
    fn it_works_where_nothing_is_said_or_can_be_noted() {
        let site = Site::new();
        assert_eq!(site.srun(&["a"], &[]).1, ["--overlap", "a"]);
        fs::remove_dir_all(site.notes.sruns()).expect("is removed");
        assert_eq!(site.srun(&["a"], &[(STEP, "x")]).1, ["--overlap", "--job-name=torc_x", "a"]);
    }

    #[test]
    fn jobs_that_share_a_node_are_not_given_the_same_cpus() {
        let site = Site::new();
        let check = |program: &str, nodes: &str, expected: &str| {
            let env = [("SLURM_JOB_NUM_NODES", nodes), ("SLURM_CPUS_PER_TASK", "4")];
            let output = Command::new(program).args(["x"]).envs(env).output().expect("starts");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let first =
                text.lines().next().and_then(|line| line.split_once(' ')).expect("two words");
            assert_eq!(first.1, expected, "{program} {nodes}");
        };
        let srun = format!("{}/srun", site.sruns.folder());
        check(&srun, "1", "");
        check(&srun, "2", "4");
        check(site.sruns.for_hydra(), "2", "");
    }

    #[test]
    fn proxies_of_hydra_are_started_by_the_private_srun_or_by_ssh() {
        let site = Site::new();
        let ssh = site.folder.path().join("ssh");
        write_program(&ssh, "#!/bin/sh\necho 1 ssh\nprintf '%s\\n' \"$@\"\n").expect("is written");
        let path = format!("{}:/usr/bin:/bin", site.folder.path().display());
        let env = [("PATH", path.as_str()), JOB[0], JOB[2]];
        let (_, args) = site.run(site.sruns.for_hydra(), &["-N", "2", "proxy"], &env);
        assert_eq!(
            args,
            [
                "--overlap",
                "--job-name=torc_wf1_j2_r1_a1",
                "--exclude=node[1-2]",
                "-N",
                "2",
                "proxy"
            ]
        );
        let output = Command::new(site.sruns.for_hydra())
            .args(["-x", "node4", "proxy"])
            .env("PATH", &path)
            .output()
            .expect("starts");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1 ssh\n-x\nnode4\nproxy\n");
    }

    #[test]
    fn tasks_are_shown_the_jobs_gpus() {
        let site = Site::new();
        let check = |devices: &str, expected: &str| {
            let output = Command::new(site.sruns.prolog())
                .env_clear()
                .envs([
                    (DEVICES, devices),
                    ("CUDA_VISIBLE_DEVICES", "0,1"),
                    ("ZE_AFFINITY_MASK", ""),
                ])
                .output()
                .expect("starts");
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        };
        check("1", "export CUDA_VISIBLE_DEVICES=1\n");
        check("", "unset CUDA_VISIBLE_DEVICES\n");
    }
}
