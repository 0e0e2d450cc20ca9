//! What an srun that is asked to be verbose says about its step, gathered line by line. Pure.
//!
//! The wordings are those of Slurm 22.05 and of the releases since; a line that is not known says
//! nothing. Slurm's exit code of srun alone is no evidence: srun has exited with 0 after its only node
//! failed, and with 1 when a step was out of memory.

use std::collections::BTreeSet;

/// Of what srun complains about, the last few lines are kept.
const COMPLAINTS_KEPT: usize = 6;

/// Bytes of a complaint that are kept.
const COMPLAINT_LENGTH: usize = 400;

/// The status of a task that ran out of memory, in place of a signal's number (Slurm's SIG_OOM).
const OUT_OF_MEMORY: u32 = 0xfd;

/// What is known of a step from its srun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// The number of the step within its Slurm job.
    pub(super) number: Option<u32>,
    /// Tasks that were started.
    pub(super) started: u32,
    /// Tasks of which the end was told with its status.
    pub(super) ended: u32,
    /// The first wait status (wait(2)) that was not 0.
    pub(super) failure: Option<u32>,
    /// A task ran out of memory.
    pub(super) is_out_of_memory: bool,
    /// srun waits for resources, and has started nothing.
    pub(super) is_waiting: bool,
    /// Nodes that failed under the step, by Slurm's own word, as a host list.
    pub(super) failed_nodes: BTreeSet<String>,
    /// Nodes that srun could not reach to start the step.
    pub(super) unreachable_nodes: BTreeSet<String>,
    /// The step could not be created.
    pub(super) refusal: Option<String>,
    /// An output file could not be opened.
    pub(super) output_failure: Option<String>,
    /// srun's last complaints.
    pub(super) complaints: Vec<String>,
}

impl Evidence {
    /// Takes note of a line from srun's standard error.
    pub(super) fn read(&mut self, line: &str) {
        let Some(text) = line.strip_prefix("srun: ") else {
            // Words of a plugin of the site's.
            return;
        };
        match text.strip_prefix("error: ") {
            Some(error) => self.read_error(error),
            None => self.read_progress(text),
        }
    }

    fn read_progress(&mut self, text: &str) {
        // `launching StepId=41.1 on host thread1, 1 tasks: 0`
        if let Some(rest) = text.strip_prefix("launching StepId=") {
            self.number = self.number.or_else(|| step_number(rest));
            self.is_waiting = false;
            return;
        }
        // `Job 41 step creation temporarily disabled, retrying (Requested nodes are busy)`
        if text.starts_with("Job ") && text.contains(" step creation ") {
            self.is_waiting = true;
            return;
        }
        // Said where memory is watched by sampling (slurm.conf(5), OverMemoryKill).
        if text.starts_with("Exceeded job memory limit") {
            self.is_out_of_memory = true;
            return;
        }
        // Others name their plugin and function first.
        let words = text.rsplit(": ").next().unwrap_or(text);
        if let Some(rest) = words.strip_prefix("Node ")
            && let Some(rest) = rest.strip_suffix(" tasks started")
        {
            let count = rest.rsplit(' ').next().and_then(|count| count.parse::<u32>().ok());
            self.started = self.started.saturating_add(count.unwrap_or(1));
        } else if let Some(rest) = words.strip_prefix("Received task exit notification for ") {
            self.read_end(rest);
        }
    }

    /// `1 task of StepId=41.3 (status=0x0009).`
    fn read_end(&mut self, rest: &str) {
        let count = rest.split(' ').next().and_then(|count| count.parse::<u32>().ok());
        self.ended = self.ended.saturating_add(count.unwrap_or(1));
        if self.number.is_none() {
            self.number = rest.split_once("StepId=").and_then(|(_, id)| step_number(id));
        }
        let status = rest.split_once("status=0x").and_then(|(_, status)| {
            let end = status.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(status.len());
            u32::from_str_radix(&status[..end], 16).ok()
        });
        match status {
            Some(0) | None => {}
            Some(status) if status & 0xff == OUT_OF_MEMORY => self.is_out_of_memory = true,
            Some(status) => self.failure = self.failure.or(Some(status)),
        }
    }

    fn read_error(&mut self, error: &str) {
        if let Some(nodes) = error.strip_prefix("Node failure on ") {
            self.failed_nodes.insert(nodes.trim().to_owned());
        } else if error.starts_with("Unable to create step")
            || error.starts_with("Unable to confirm allocation")
        {
            let reason = error.split_once(": ").map_or(error, |(_, reason)| reason);
            self.refusal = Some(reason.trim().to_owned());
        } else if error.starts_with("Could not open std") {
            self.output_failure = Some(error.to_owned());
        } else if error.starts_with("Task launch for ") {
            // `Task launch for StepId=43.6 failed on node node4: Communication connection failure`
            if let Some((_, rest)) = error.split_once(" failed on node ")
                && let Some((node, reason)) = rest.split_once(": ")
                && is_about_communication(reason)
            {
                self.unreachable_nodes.insert(node.to_owned());
            }
        } else if error.ends_with(": Out Of Memory") {
            self.is_out_of_memory = true;
        } else if let Some((_, code)) = error.rsplit_once(": Exited with exit code ") {
            // Usually its status was told before, in more detail.
            let status = code.trim().parse::<u32>().ok().map(|code| (code & 0xff) << 8);
            self.failure = self.failure.or(status);
        }
        if self.complaints.len() == COMPLAINTS_KEPT {
            self.complaints.remove(0);
        }
        self.complaints.push(error.chars().take(COMPLAINT_LENGTH).collect());
    }

    /// Whether some task ran, if only for a moment.
    pub(super) fn has_started(&self) -> bool {
        self.started > 0 || self.ended > 0
    }

    /// Whether Slurm creates no more steps for this job (slurm.conf(5), MaxStepCount).
    pub(super) fn is_step_limit_reached(&self) -> bool {
        self.refusal.as_ref().is_some_and(|reason| reason.contains("Step limit reached"))
    }

    /// Whether the step could not be created for a reason that passes: the controller did not answer, or
    /// had just been restarted. For some seconds then it knows no memory of the nodes.
    pub(super) fn may_be_tried_again(&self) -> bool {
        let is_passing = |reason: &String| {
            is_about_communication(reason) || reason.contains("Memory required by task")
        };
        !self.has_started()
            && self.number.is_none()
            && self.refusal.as_ref().is_some_and(is_passing)
    }
}

/// `41.1`, or `41+0.1` for a component of a heterogeneous job.
fn step_number(id: &str) -> Option<u32> {
    let (_, rest) = id.split_once('.')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Slurm's words for a peer that could not be talked to (slurm_errno.c).
pub(super) fn is_about_communication(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    let words = [
        "communication",
        "connection",
        "no route to host",
        "timed out",
        "unable to contact",
        "unable to connect",
        "zero bytes",
        "standby",
    ];
    words.iter().any(|word| reason.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Evidence {
        let mut evidence = Evidence::default();
        lines.lines().for_each(|line| evidence.read(line.trim_start()));
        evidence
    }

    /// What every verbose srun says first. The names of files can be anything.
    const PREAMBLE: &str = "srun: defined options
        srun: -------------------- --------------------
        srun: (null)              : thread1
        srun: error               : /x/error: y: Node failure on node1
        srun: job-name            : wf1_j1_r1_a1
        srun: output              : /x/Node a: Node b, 1 tasks started/error: Node failure on n
        srun: jobid 41: nodes(1):`thread1', cpu counts: 16(x1)
        srun: launch/slurm: launch_p_step_launch: CpuBindType=(null type)";

    #[test]
    fn a_preamble_says_nothing() {
        assert_eq!(read(PREAMBLE), Evidence::default());
        assert_eq!(
            read("error: Node failure on node1\n\nsrun:\nslurmstepd: x"),
            Evidence::default()
        );
    }

    #[test]
    fn a_step_that_ran() {
        let evidence = read("srun: launching StepId=41.1 on host thread1, 1 tasks: 0
            srun: route/default: init: route default plugin loaded
            srun: launch/slurm: _task_start: Node thread1, 1 tasks started
            srun: launch/slurm: _task_finish: Received task exit notification for 1 task of StepId=41.1 (status=0x0700).
            srun: error: thread1: task 0: Exited with exit code 7");
        assert!(evidence.has_started());
        let counts = (evidence.number, evidence.started, evidence.ended, evidence.failure);
        assert_eq!(counts, (Some(1), 1, 1, Some(0x700)));
    }

    #[test]
    fn the_first_rank_that_fails_is_the_cause() {
        let evidence = read("srun: launching StepId=42.1 on host thread1, 2 tasks: [0-1]
            srun: launching StepId=42.1 on host thread2, 2 tasks: [2-3]
            srun: launch/slurm: _task_start: Node thread2, 2 tasks started
            srun: launch/slurm: _task_start: Node thread1, 2 tasks started
            srun: launch/slurm: _task_finish: Received task exit notification for 1 task of StepId=42.1 (status=0x0300).
            srun: error: thread2: task 2: Exited with exit code 3
            srun: launch/slurm: _step_signal: Terminating StepId=42.1
            srun: launch/slurm: _task_finish: Received task exit notification for 1 task of StepId=42.1 (status=0x000f).
            srun: error: thread2: task 3: Terminated
            srun: launch/slurm: _task_finish: Received task exit notification for 2 tasks of StepId=42.1 (status=0x000f).
            srun: error: thread1: tasks 0-1: Terminated
            srun: Force Terminated StepId=42.1");
        let counts = (evidence.number, evidence.started, evidence.ended, evidence.failure);
        assert_eq!(counts, (Some(1), 4, 4, Some(0x300)));
        let complaints = [
            "thread2: task 2: Exited with exit code 3",
            "thread2: task 3: Terminated",
            "thread1: tasks 0-1: Terminated",
        ];
        assert_eq!(evidence.complaints, complaints);
        assert_eq!(read("srun: error: n: task 2: Exited with exit code 3").failure, Some(0x300));
    }

    #[test]
    fn out_of_memory_is_told_by_status_or_by_words() {
        let status = "srun: _task_finish: Received task exit notification for 1 task of StepId=40.8 (status=0x00fd).";
        let evidence = read(status);
        assert!(evidence.is_out_of_memory && evidence.failure.is_none());
        assert!(read("srun: error: thread1: task 0: Out Of Memory").is_out_of_memory);
        assert!(read("srun: Exceeded job memory limit").is_out_of_memory);
    }

    #[test]
    fn a_node_that_failed_is_named() {
        let evidence = read(
            "srun: launch/slurm: _task_start: Node node4, 1 tasks started
            srun: error: Node failure on node[3-4]",
        );
        assert_eq!(evidence.failed_nodes, BTreeSet::from(["node[3-4]".to_owned()]));
        let evidence = read("srun: launching StepId=43.6 on host node4, 1 tasks: 0
            srun: error: Task launch for StepId=43.6 failed on node node4: Communication connection failure
            srun: error: Application launch failed: Communication connection failure
            srun: Job step aborted");
        assert_eq!(evidence.unreachable_nodes, BTreeSet::from(["node4".to_owned()]));
        assert!(!evidence.has_started() && !evidence.may_be_tried_again());
        let evidence = read(
            "srun: error: Task launch for StepId=1.6 failed on node n: Invalid job credential",
        );
        assert_eq!(evidence.unreachable_nodes, BTreeSet::new());
    }

    #[test]
    fn waiting_comes_to_an_end() {
        let waiting =
            "srun: Job 41 step creation temporarily disabled, retrying (Requested nodes are busy)";
        assert!(read(waiting).is_waiting);
        let created = format!(
            "{waiting}\nsrun: Step created for job 41\nsrun: launching StepId=41.13 on host thread1, 1 tasks: 0"
        );
        let evidence = read(&created);
        assert_eq!((evidence.is_waiting, evidence.number), (false, Some(13)));
    }

    #[test]
    fn a_step_that_was_not_created_says_why() {
        let check = |reason: &str, is_passing: bool| {
            let evidence =
                read(&format!("srun: error: Unable to create step for job 40: {reason}"));
            assert_eq!(evidence.refusal.as_deref(), Some(reason));
            assert_eq!(evidence.may_be_tried_again(), is_passing, "{reason}");
        };
        check("Requested node configuration is not available", false);
        check("More processors requested than permitted", false);
        check("Job/step already completing or completed", false);
        check("Step limit reached for this job", false);
        check("Unable to contact slurm controller (connect failure)", true);
        check("Socket timed out on send/recv operation", true);
        check("Slurm backup controller in standby mode", true);
        check("Memory required by task is not available", true);
        let lookup = "srun: error: Unable to confirm allocation for job 41: Unable to contact slurm \
                      controller (connect failure)";
        assert!(read(lookup).may_be_tried_again());
    }

    #[test]
    fn numbers_of_steps_are_read() {
        assert_eq!(step_number("41.13 on host"), Some(13));
        assert_eq!(step_number("41+0.2."), Some(2));
        assert_eq!(step_number("41"), None);
        assert_eq!(step_number("41.batch"), None);
    }

    #[test]
    fn few_complaints_are_kept() {
        let mut evidence = Evidence::default();
        for number in 0..100 {
            evidence.read(&format!("srun: error: {number} {}", "x".repeat(10_000)));
        }
        assert_eq!(evidence.complaints.len(), COMPLAINTS_KEPT);
        assert!(evidence.complaints.iter().all(|line| line.len() == COMPLAINT_LENGTH));
        assert!(evidence.complaints[0].starts_with("94 "));
    }

    proptest::proptest! {
        #[test]
        fn no_words_make_it_panic(line in "(srun: )?(error: )?(launching StepId=|Node |Task launch for |Received task exit notification for )?\\PC*") {
            read(&line);
        }
    }
}
