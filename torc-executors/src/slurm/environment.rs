//! The environments that Slurm's client programs are started with.
//!
//! Pure. What a user or a site set for their own use of these programs (`SQUEUE_FORMAT`,
//! `SBATCH_PARTITION`, `SLURM_CLUSTERS`) changes neither an answer nor a request; only where the cluster
//! is found gets through.

use std::ffi::{OsStr, OsString};

use torc_core::os_text::OsText;

/// A process's environment.
pub type Environment = Vec<(OsString, OsString)>;

/// By these the clients find the cluster and show who they are (sbatch(1), INPUT ENVIRONMENT VARIABLES).
const CLUSTER: [&str; 4] = ["SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_SACK_SOCKET"];

/// What changes the answers of client programs.
const CLIENTS: [&str; 8] =
    ["SLURM_", "SBATCH_", "SQUEUE_", "SINFO_", "SACCT_", "SCANCEL_", "SCONTROL_", "SRUN_"];

/// What the jobs of an allocation must not have from whoever asked for it.
const REQUESTS: [&str; 2] = ["SLURM_", "SBATCH_"];

fn has_prefix(name: &OsStr, prefixes: &[&str]) -> bool {
    let bytes = name.as_encoded_bytes();
    prefixes.iter().any(|prefix| bytes.starts_with(prefix.as_bytes()))
}

fn is_of_cluster(name: &OsStr) -> bool {
    CLUSTER.iter().any(|known| name == *known)
}

fn set(env: &mut Environment, name: &str, value: &str) {
    env.retain(|(known, _)| known != name);
    env.push((name.into(), value.into()));
}

/// For a question: times as seconds since the epoch, job arrays in full, messages in English.
pub fn for_queries(base: &[(OsString, OsString)]) -> Environment {
    let wanted = |name: &OsStr| is_of_cluster(name) || !has_prefix(name, &CLIENTS);
    let mut env: Environment = base.iter().filter(|(name, _)| wanted(name)).cloned().collect();
    set(&mut env, "SLURM_TIME_FORMAT", "%s");
    set(&mut env, "SLURM_BITSTR_LEN", "0");
    set(&mut env, "LC_ALL", "C");
    env
}

/// For a request, whose environment the allocation inherits: the submitter's own, with the way to the
/// cluster from `base` where the submitter names none.
pub fn for_request(env: &[(OsText, OsText)], base: &[(OsString, OsString)]) -> Environment {
    let own =
        env.iter().cloned().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let mut found: Environment =
        own.filter(|(name, _)| is_of_cluster(name) || !has_prefix(name, &REQUESTS)).collect();
    let missing = base.iter().filter(|(name, _)| is_of_cluster(name));
    for (name, value) in missing {
        if !found.iter().any(|(known, _)| known == name) {
            found.push((name.clone(), value.clone()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(env: &Environment) -> Vec<String> {
        env.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect()
    }

    fn os(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn own(pairs: &[(&str, &str)]) -> Vec<(OsText, OsText)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn questions_are_asked_alike_everywhere() {
        let base = os(&[
            ("PATH", "/bin"),
            ("SLURM_CONF", "/etc/slurm.conf"),
            ("SLURM_TIME_FORMAT", "relative"),
            ("SQUEUE_FORMAT", "%i"),
            ("SINFO_PARTITION", "x"),
            ("SLURM_CLUSTERS", "other"),
            ("SBATCH_PARTITION", "x"),
            ("SLURMISH", "1"),
        ]);
        let expected = [
            "PATH=/bin",
            "SLURM_CONF=/etc/slurm.conf",
            "SLURMISH=1",
            "SLURM_TIME_FORMAT=%s",
            "SLURM_BITSTR_LEN=0",
            "LC_ALL=C",
        ];
        assert_eq!(names(&for_queries(&base)), expected);
    }

    #[test]
    fn requests_inherit_the_submitters_environment() {
        let base = os(&[("SLURM_CONF", "/etc/slurm.conf"), ("SLURM_JOB_ID", "1"), ("SECRET", "1")]);
        let env = own(&[
            ("A", "b c"),
            ("SLURM_JOB_ID", "7"),
            ("SBATCH_QOS", "x"),
            ("SQUEUE_FORMAT", "%i"),
        ]);
        let expected = ["A=b c", "SQUEUE_FORMAT=%i", "SLURM_CONF=/etc/slurm.conf"];
        assert_eq!(names(&for_request(&env, &base)), expected);
        let env = own(&[("SLURM_CONF", "/home/me/slurm.conf")]);
        assert_eq!(names(&for_request(&env, &base)), ["SLURM_CONF=/home/me/slurm.conf"]);
    }
}
