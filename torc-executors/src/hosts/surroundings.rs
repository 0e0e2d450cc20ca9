//! What a job finds in its environment that leads what starts its ranks to its own hosts. Pure.
//!
//! Launchers of MPI know a file of hosts with so many places each, and start their helpers on other hosts with
//! something like rsh: both are the job's own here, so that none of them goes by what the batch system says of the
//! whole allocation. Where that is Grid Engine, its variables speak of the job's hosts, too.

use std::collections::BTreeMap;
use std::ffi::OsString;

use torc_core::traits::Step;

/// The variable that names the host that a process of a job is on.
pub const HOST: &str = "TORC_HOST";

/// Set in all processes of a job, and inherited by what it starts on its other hosts.
pub(super) const RANKS_OF: &str = "TORC_RANKS_OF";

/// What is another on each host, and so is not passed on to what a job starts on another one.
const OF_THE_HOST: [&str; 9] =
    [HOST, "HOST", "HOSTNAME", "OLDPWD", "PWD", "TEMP", "TMP", "TMPDIR", "TORC_STEP_MARK"];

/// Of the environment of a process of a job, what a command that it starts on another host is given.
pub fn inherited_by_helpers(
    env: impl Iterator<Item = (OsString, OsString)>,
) -> BTreeMap<String, String> {
    let text =
        env.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    text.filter(|(name, _)| !OF_THE_HOST.contains(&&**name)).collect()
}

/// By these a user chooses what Hydra (MPICH's and Intel MPI's mpiexec) starts its helpers with.
const HYDRA_CHOICES: [&str; 3] = ["HYDRA_BOOTSTRAP", "HYDRA_LAUNCHER", "I_MPI_HYDRA_BOOTSTRAP"];

/// Grid Engine's file of an allocation's hosts.
const PE_HOSTFILE: &str = "PE_HOSTFILE";

/// The kinds of files that name a job's hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    OpenMpi,
    Hydra,
    GridEngine,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::OpenMpi, Self::Hydra, Self::GridEngine];

    /// The end of the file's name.
    fn ending(self) -> &'static str {
        match self {
            Self::OpenMpi => "openmpi",
            Self::Hydra => "hydra",
            Self::GridEngine => "pe",
        }
    }

    /// Where the file is, of which `stem` is all but the end.
    pub(super) fn path(self, stem: &str) -> String {
        format!("{stem}.{}", self.ending())
    }

    /// What is in it.
    pub(super) fn text(self, step: &Step) -> String {
        let line = |(host, ranks): (&str, u32)| match self {
            Self::OpenMpi => format!("{host} slots={ranks}\n"),
            Self::Hydra => format!("{host}:{ranks}\n"),
            Self::GridEngine => format!("{host} {ranks} UNDEFINED UNDEFINED\n"),
        };
        places(step).map(line).collect()
    }
}

/// The hosts of a step, and the places for ranks on each: on one host as many as it has CPUs there.
fn places(step: &Step) -> impl Iterator<Item = (&str, u32)> {
    let is_gang = step.nodes.len() > 1;
    step.nodes.iter().map(move |node| {
        let cpus = u32::try_from(node.cores.len()).unwrap_or(u32::MAX);
        let ranks = if is_gang { step.layout.ntasks_per_node } else { cpus };
        (&*node.name, ranks.max(1))
    })
}

/// What jobs are told besides the base environment.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    base: BTreeMap<String, String>,
    /// What is called like rsh.
    agent: String,
}

impl Surroundings {
    /// On top of this environment, where this program is called like rsh.
    pub(super) fn new(base: &[(OsString, OsString)], agent: String) -> Self {
        let text = |(name, value): &(OsString, OsString)| {
            Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()))
        };
        Self { base: base.iter().filter_map(text).collect(), agent }
    }

    /// Adds what a job is told to its environment, whose files are those of this stem. What the job sets itself wins.
    pub(super) fn add_to(&self, step: &mut Step, stem: &str) {
        let (open_mpi, hydra) = (Kind::OpenMpi.path(stem), Kind::Hydra.path(stem));
        let mut added = BTreeMap::from([
            // Up to 4, and from 5 on.
            ("OMPI_MCA_orte_default_hostfile", open_mpi.clone()),
            ("OMPI_MCA_plm", "rsh".to_owned()),
            ("OMPI_MCA_plm_rsh_agent", self.agent.clone()),
            ("PRTE_MCA_plm", "ssh".to_owned()),
            ("PRTE_MCA_plm_ssh_agent", self.agent.clone()),
            ("PRTE_MCA_prte_default_hostfile", open_mpi),
            ("HYDRA_HOST_FILE", hydra.clone()),
            ("I_MPI_HYDRA_HOST_FILE", hydra),
        ]);
        if !HYDRA_CHOICES.iter().any(|name| self.get(step, name).is_some()) {
            added.extend([
                ("HYDRA_LAUNCHER", "rsh".to_owned()),
                ("HYDRA_LAUNCHER_EXEC", self.agent.clone()),
                ("I_MPI_HYDRA_BOOTSTRAP", "rsh".to_owned()),
                ("I_MPI_HYDRA_BOOTSTRAP_EXEC", self.agent.clone()),
            ]);
        }
        if self.base.contains_key(PE_HOSTFILE) {
            let ranks: u64 = places(step).map(|(_, ranks)| u64::from(ranks)).sum();
            added.insert(PE_HOSTFILE, Kind::GridEngine.path(stem));
            added.insert("NSLOTS", ranks.to_string());
            added.insert("NHOSTS", step.nodes.len().to_string());
        }
        for (name, value) in added {
            step.env.entry(name.to_owned()).or_insert(value);
        }
        step.env.insert(RANKS_OF.to_owned(), step.id.to_string());
    }

    /// A variable as the job would have it.
    fn get<'a>(&'a self, step: &'a Step, name: &str) -> Option<&'a str> {
        step.env.get(name).or_else(|| self.base.get(name)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::slurm::launcher::tests::{gang, single};

    fn added(base: &[(&str, &str)], mut step: Step) -> String {
        let base: Vec<_> = base.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        let surroundings = Surroundings::new(&base, "/c/rsh".into());
        surroundings.add_to(&mut step, "/c/own");
        step.env.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    #[test]
    fn a_gang_is_led_to_its_hosts() {
        assert_snapshot!(added(&[("PE_HOSTFILE", "/all"), ("NSLOTS", "64")], gang()), @"
        HYDRA_HOST_FILE=/c/own.hydra
        HYDRA_LAUNCHER=rsh
        HYDRA_LAUNCHER_EXEC=/c/rsh
        I_MPI_HYDRA_BOOTSTRAP=rsh
        I_MPI_HYDRA_BOOTSTRAP_EXEC=/c/rsh
        I_MPI_HYDRA_HOST_FILE=/c/own.hydra
        NHOSTS=3
        NSLOTS=6
        OMPI_MCA_orte_default_hostfile=/c/own.openmpi
        OMPI_MCA_plm=rsh
        OMPI_MCA_plm_rsh_agent=/c/rsh
        PE_HOSTFILE=/c/own.pe
        PRTE_MCA_plm=ssh
        PRTE_MCA_plm_ssh_agent=/c/rsh
        PRTE_MCA_prte_default_hostfile=/c/own.openmpi
        TORC_JOB_ID=2
        TORC_RANKS_OF=wf1_j2_r1_a1
        ");
    }

    #[test]
    fn what_a_job_chooses_itself_stays() {
        let hydra = |base: &[(&str, &str)]| added(base, single()).matches("HYDRA").count();
        assert_eq!(hydra(&[]), 6);
        assert_eq!(hydra(&[("HYDRA_LAUNCHER", "ssh")]), 2);
        let mut step = gang();
        step.env.insert("OMPI_MCA_plm_rsh_agent".into(), "mine".into());
        let found = added(&[], step);
        assert!(found.contains("OMPI_MCA_plm_rsh_agent=mine\n"), "{found}");
        assert!(!found.contains("NSLOTS") && !found.contains("PE_HOSTFILE"), "{found}");
    }

    #[test]
    fn files_name_the_hosts_and_their_places() {
        let text = |step: &Step| Kind::ALL.map(|kind| kind.text(step)).concat();
        assert_snapshot!(text(&gang()), @"
        node2 slots=2
        node3 slots=2
        node4 slots=2
        node2:2
        node3:2
        node4:2
        node2 2 UNDEFINED UNDEFINED
        node3 2 UNDEFINED UNDEFINED
        node4 2 UNDEFINED UNDEFINED
        ");
        assert_snapshot!(text(&single()), @"
        node3 slots=4
        node3:4
        node3 4 UNDEFINED UNDEFINED
        ");
    }
}
