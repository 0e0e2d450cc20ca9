//! The srun that starts the node workers: one task on each node, which has all that was granted there.
//! Pure.
//!
//! As for steps of jobs, every option that says what the tasks are given is on the command line. Nodes
//! that were granted different amounts need sruns of their own: its options hold for all of its nodes.

use torc_core::resources::NodeInventory;

use super::traces::WORKERS;
use crate::slurm::hostlist;
use crate::slurm::version::Dialect;

/// Nodes that one srun can start workers on, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// Their names.
    pub(super) nodes: Vec<String>,
    cpus: usize,
    gpus: usize,
}

/// The nodes by what they have, in the order of the first of each kind.
pub(super) fn kinds(nodes: &[NodeInventory]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for node in nodes {
        let (cpus, gpus) = (node.cores.len(), node.gpus.len());
        let name = node.name.to_string();
        match kinds.iter_mut().find(|kind| (kind.cpus, kind.gpus) == (cpus, gpus)) {
            Some(kind) => kind.nodes.push(name),
            None => kinds.push(Kind { nodes: vec![name], cpus, gpus }),
        }
    }
    kinds
}

/// How that srun is to be called.
#[derive(Clone, Debug)]
pub(super) struct Outer {
    /// The srun to execute.
    pub(super) srun: String,
    /// The release's habits.
    pub(super) dialect: Dialect,
    /// The value of `--mpi`.
    pub(super) mpi: Option<String>,
    /// What each task executes.
    pub(super) command: Vec<String>,
}

impl Outer {
    /// Its arguments, the program first.
    ///
    /// It is verbose for the sake of what it says about tasks, and what tasks say is labelled, so that the
    /// two cannot be mixed up. A task that ends, or a node that fails, ends no other task.
    pub(super) fn argv(&self, kind: &Kind) -> Vec<String> {
        let count = kind.nodes.len();
        let mut argv = vec![
            self.srun.clone(),
            "-v".to_owned(),
            "--label".to_owned(),
            format!("--nodelist={}", hostlist::compress(&kind.nodes)),
            format!("--nodes={count}"),
            format!("--ntasks={count}"),
            "--ntasks-per-node=1".to_owned(),
            format!("--cpus-per-task={}", kind.cpus.max(1)),
            "--cpu-bind=none".to_owned(),
            "--mem=0".to_owned(),
            match kind.gpus {
                0 => "--gres=none".to_owned(),
                count => format!("--gpus-per-node={count}"),
            },
        ];
        let rest = ["--overlap", "--no-kill", "--kill-on-bad-exit=0", "--wait=0", "--input=none"];
        argv.extend(rest.map(str::to_owned));
        argv.extend([
            format!("--job-name={WORKERS}"),
            "--chdir=/".to_owned(),
            "--export=ALL".to_owned(),
            format!("--mpi={}", self.mpi.as_deref().unwrap_or("none")),
        ]);
        if self.dialect.steps_have_node_failures() {
            // A site may have it that memory that runs out on one node ends the step on all.
            argv.push("--oom-kill-step=0".to_owned());
        }
        argv.extend(self.command.iter().cloned());
        argv
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::slurm::version::Version;

    fn node(name: &str, cpus: u32, gpus: &[&str]) -> NodeInventory {
        NodeInventory {
            name: name.into(),
            cores: (0..cpus).collect(),
            threads_per_core: 1,
            memory: 1 << 30,
            gpus: gpus.iter().map(|&gpu| gpu.into()).collect(),
            slots: None,
        }
    }

    fn outer(release: &str) -> Outer {
        let version = Version::parse(&format!("slurm {release}")).expect("a release");
        Outer {
            srun: "/usr/bin/srun".into(),
            dialect: Dialect::of(version).expect("is new enough"),
            mpi: None,
            command: ["/bin/torc", "worker", "--node"].map(str::to_owned).to_vec(),
        }
    }

    #[test]
    fn one_srun_starts_them_all() {
        let nodes = ["node1", "node2", "node4"].map(|name| node(name, 8, &["0", "1"]));
        let kinds = kinds(&nodes);
        assert_eq!(kinds.len(), 1);
        assert_snapshot!(outer("22.05.8").argv(&kinds[0]).join("\n"), @"
        /usr/bin/srun
        -v
        --label
        --nodelist=node[1-2,4]
        --nodes=3
        --ntasks=3
        --ntasks-per-node=1
        --cpus-per-task=8
        --cpu-bind=none
        --mem=0
        --gpus-per-node=2
        --overlap
        --no-kill
        --kill-on-bad-exit=0
        --wait=0
        --input=none
        --job-name=torc_workers
        --chdir=/
        --export=ALL
        --mpi=none
        /bin/torc
        worker
        --node
        ");
    }

    #[test]
    fn nodes_that_differ_have_their_own() {
        let nodes =
            [node("a1", 8, &[]), node("b1", 8, &["3"]), node("a2", 8, &[]), node("c1", 0, &[])];
        let found: Vec<String> = kinds(&nodes)
            .iter()
            .map(|kind| {
                let differing = ["--nodelist=", "--cpus-per-task=", "--gres=", "--gpus-per-node="];
                let argv = outer("24.11.0").argv(kind);
                let words =
                    argv.iter().filter(|word| differing.iter().any(|name| word.starts_with(name)));
                words.cloned().collect::<Vec<_>>().join(" ")
            })
            .collect();
        assert_eq!(
            found,
            [
                "--nodelist=a[1-2] --cpus-per-task=8 --gres=none",
                "--nodelist=b1 --cpus-per-task=8 --gpus-per-node=1",
                "--nodelist=c1 --cpus-per-task=1 --gres=none",
            ]
        );
        assert_eq!(kinds(&[]), []);
    }

    #[test]
    fn releases_and_sites_differ() {
        let mut outer = outer("24.11.0");
        outer.mpi = Some("pmix".into());
        let argv = outer.argv(&kinds(&[node("a", 1, &[])])[0]);
        for word in ["--mpi=pmix", "--oom-kill-step=0"] {
            assert!(argv.contains(&word.to_owned()), "{word}");
        }
    }
}
