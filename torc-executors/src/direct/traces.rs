//! What tells whose a step of Slurm's is. Pure, but for what was noted and which processes live.
//!
//! Owns the rule by which a step counts as left behind by a job. Does not know how it is ended. Invariant: no step of
//! torc's own or of an action's command, and none that has the name of another job's, is ever taken for a job's.

use std::collections::{HashMap, HashSet};

use torc_core::ids::StepId;

use super::notes::Notes;
use super::sruns;
use crate::slurm::steps::{Listed, Srun};
use crate::slurm::{host_name, hostlist, is_alive};

/// The step that the node workers themselves are.
pub(super) const WORKERS: &str = "torc_workers";

/// What tells the steps of Slurm's that a job started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// The job's step.
    pub step: StepId,
    /// Its nodes, if they were its alone; otherwise none.
    pub whole_nodes: Vec<String>,
    /// The sruns that it called for, as far as they are known.
    pub sruns: Vec<Srun>,
}

/// This host, whose processes can be looked at.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// Its name, as srun tells it to Slurm.
    pub(super) name: String,
    /// Whether a process of this host has ended.
    pub(super) is_gone: fn(u32) -> bool,
}

impl Host {
    /// This host.
    pub(super) fn this() -> Self {
        Self { name: host_name(), is_gone: |pid| !is_alive(pid) }
    }

    pub(super) fn is_gone(&self, srun: &Srun) -> bool {
        srun.host == self.name && (self.is_gone)(srun.pid)
    }
}

/// What is known of the hosts that sruns are on.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    here: Host,
    /// The nodes that are on other hosts.
    elsewhere: HashMap<String, Vec<String>>,
    /// The sruns that commands of actions called for.
    of_commands: Vec<Srun>,
}

impl Hosts {
    /// The hosts of the sruns that have started these steps.
    pub(super) fn of(here: &Host, notes: &Notes, listed: &[Listed]) -> Self {
        let sruns = listed.iter().filter_map(|step| step.srun.as_ref());
        let names: HashSet<&String> = sruns.map(|srun| &srun.host).collect();
        let others = names.into_iter().filter(|name| **name != here.name);
        let elsewhere = others.map(|name| (name.clone(), notes.nodes_on(name))).collect();
        Self { here: here.clone(), elsewhere, of_commands: notes.called_by_commands() }
    }

    /// Whether a host is that of one of these nodes. A node that noted nothing has its host's name.
    fn is_of(&self, nodes: &[String], host: &String) -> bool {
        let own = self.elsewhere.get(host).into_iter().flatten();
        own.chain([host]).any(|node| nodes.contains(node))
    }
}

/// What a step of Slurm's is to a job that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It left it behind.
    Left,
    /// It runs on the job's own nodes, but what started it lives: somebody came to look, or the job has not been
    /// killed yet.
    Watched,
    /// Nothing.
    Another,
}

impl Traces {
    /// What a step of Slurm's is to this job, no process of which is left on its first node.
    ///
    /// Steps that it called for in our way have its name, or their sruns were noted. On nodes that were its alone
    /// all other steps are its, too, but for those of people who came to look: their sruns are on hosts that are not
    /// the job's, or, where processes can be looked at, live.
    pub(super) fn find(&self, listed: &Listed, hosts: &Hosts) -> Finding {
        if listed.name == WORKERS || sruns::is_of_a_command(&listed.name) {
            return Finding::Another;
        }
        if let Some(step) = sruns::started_by(&listed.name) {
            return if step == self.step { Finding::Left } else { Finding::Another };
        }
        match &listed.srun {
            Some(srun) if self.sruns.contains(srun) => Finding::Left,
            Some(srun) if hosts.of_commands.contains(srun) => Finding::Another,
            Some(_) if !self.has_all(&listed.nodes) => Finding::Another,
            Some(srun) if hosts.here.is_gone(srun) => Finding::Left,
            Some(srun) if srun.host == hosts.here.name => Finding::Watched,
            Some(srun) if hosts.is_of(&self.whole_nodes, &srun.host) => Finding::Left,
            _ => Finding::Another,
        }
    }

    fn has_all(&self, nodes: &str) -> bool {
        let nodes = hostlist::expand(nodes, hostlist::MOST_NODES).unwrap_or_default();
        !nodes.is_empty() && nodes.iter().all(|node| self.whole_nodes.contains(node))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::direct) fn srun(host: &str, pid: u32) -> Srun {
        Srun { host: host.to_owned(), pid }
    }

    pub(in crate::direct) fn listed(name: &str, nodes: &str, host: &str, pid: u32) -> Listed {
        let srun = Some(srun(host, pid));
        Listed { number: 1, name: name.to_owned(), nodes: nodes.to_owned(), srun }
    }

    pub(in crate::direct) fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    /// On this host processes below 100 have ended; node3 and node9 have hosts of other names.
    pub(in crate::direct) fn hosts() -> Hosts {
        let here = Host { name: "here".to_owned(), is_gone: |pid| pid < 100 };
        let elsewhere = [("h3", "node3"), ("h9", "node9")];
        let elsewhere = elsewhere.map(|(host, node)| (host.to_owned(), strings(&[node])));
        Hosts { here, elsewhere: elsewhere.into(), of_commands: vec![srun("node4", 50)] }
    }

    pub(in crate::direct) fn traces(whole_nodes: &[&str], sruns: &[(&str, u32)]) -> Traces {
        Traces {
            step: "wf1_j2_r1_a1".parse().expect("a step"),
            whole_nodes: strings(whole_nodes),
            sruns: sruns.iter().map(|&(host, pid)| srun(host, pid)).collect(),
        }
    }

    #[track_caller]
    fn check(job: &Traces, step: &Listed, expected: Finding) {
        assert_eq!(job.find(step, &hosts()), expected, "{job:?} {step:?}");
    }

    #[test]
    fn what_the_private_srun_started_is_known_anywhere() {
        use Finding::{Another, Left};
        let single = traces(&[], &[("here", 7), ("here", 107), ("there", 8)]);
        let gang = traces(&["node3", "node4"], &[("there", 8)]);
        for job in [&single, &gang] {
            check(job, &listed("torc_wf1_j2_r1_a1", "node1", "there", 900), Left);
            check(job, &listed("torc_wf1_j2_r1_a11", "node3", "there", 8), Another);
            check(job, &listed(WORKERS, "node3", "here", 7), Another);
            check(job, &listed("mine", "node1", "there", 8), Left);
            check(job, &listed("mine", "node1", "there", 9), Another);
            check(job, &listed("mine", "node1", "here", 8), Another);
            check(job, &Listed { srun: None, ..listed("mine", "node3", "", 0) }, Another);
        }
        check(&single, &listed("mine", "node1", "here", 7), Left);
        check(&single, &listed("mine", "node1", "here", 107), Left);
        check(&single, &listed("mine", "node1", "there", 7), Another);
    }

    #[test]
    fn what_runs_on_a_gangs_own_nodes_is_its() {
        use Finding::{Another, Left, Watched};
        let gang = traces(&["node3", "node4"], &[]);
        let on = |nodes: &str, host: &str, pid: u32| listed("mine", nodes, host, pid);
        // Here processes can be looked at.
        check(&gang, &on("node[3-4]", "here", 7), Left);
        check(&gang, &on("node4", "here", 7), Left);
        check(&gang, &on("node4", "here", 200), Watched);
        // Where they cannot, the job's have ended.
        for pid in [7, 200] {
            check(&gang, &on("node4", "node4", pid), Left);
            check(&gang, &on("node[3-4]", "h3", pid), Left);
            check(&gang, &on("node4", "h9", pid), Another);
            check(&gang, &on("node4", "node1", pid), Another);
            check(&gang, &on("node4", "login", pid), Another);
        }
        // A command of an action is no job.
        check(&gang, &on("node4", "node4", 50), Another);
        check(&gang, &listed("torc_command", "node4", "node4", 7), Another);
        // It has part of it only, or none.
        for host in ["here", "node4", "h3"] {
            check(&gang, &on("node[2-4]", host, 7), Another);
            check(&gang, &on("node1", host, 7), Another);
            check(&gang, &on("", host, 7), Another);
            check(&traces(&[], &[]), &on("node4", host, 7), Another);
        }
    }

    #[test]
    fn hosts_are_looked_up_in_what_was_noted() {
        let crew = tempfile::tempdir().expect("a folder");
        let notes = Notes::of(crew.path());
        notes.prepare().expect("is made");
        notes.place("node3", "h3").and_then(|()| notes.place("node1", "here")).expect("is noted");
        let steps = ["h3", "here", "login"].map(|host| listed("mine", "node3", host, 1));
        let found = Hosts::of(&hosts().here, &notes, &steps);
        let expected = [("h3", strings(&["node3"])), ("login", vec![])];
        let expected = expected.map(|(host, nodes)| (host.to_owned(), nodes));
        assert_eq!(found.elsewhere, expected.into());
    }
}
