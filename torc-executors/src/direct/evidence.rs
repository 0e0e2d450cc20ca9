//! What a verbose srun says about the tasks that it has started, one on each node. Pure.
//!
//! Of its words only those count that no task can have said: what tasks say comes with their number before
//! it (`--label`). The wordings are those of Slurm 22.05 and of the releases since; a line that is not
//! known says nothing.

use std::collections::BTreeSet;

use crate::slurm::hostlist;

/// Bytes of words that are kept.
const LONGEST: usize = 400;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The tasks on these nodes have started.
    Started {
        /// The nodes.
        nodes: Vec<String>,
    },
    /// The tasks on these nodes have ended.
    Ended {
        /// The nodes.
        nodes: Vec<String>,
        /// How, in srun's words.
        words: String,
    },
    /// These nodes have failed, or could not be reached to start a task there.
    Failed {
        /// The nodes.
        nodes: Vec<String>,
        /// Why, in srun's words.
        words: String,
    },
    /// Something that is wrong, about no node in particular.
    Complaint(String),
    /// A task's own words.
    Task {
        /// Its number, which is its node's place among the step's.
        number: usize,
        /// The words.
        words: String,
    },
}

/// Whether a complaint says that srun could not start all of its tasks. It ends those that it has started
/// then, whatever its options are.
pub(super) fn is_about_launch(complaint: &str) -> bool {
    complaint.starts_with("Unable to c")
        || complaint.starts_with("Application launch failed")
        || (complaint.starts_with("task") && complaint.contains(" launch failed"))
}

/// Reads a line of srun's standard error, for a step on these nodes.
pub(super) fn read(line: &str, members: &BTreeSet<String>) -> Option<Said> {
    let Some(text) = line.strip_prefix("srun: ") else { return read_task(line) };
    match text.strip_prefix("error: ") {
        Some(error) => read_error(error, members)
            .or_else(|| Some(Said::Complaint(error.chars().take(LONGEST).collect()))),
        None => read_progress(text, members),
    }
}

/// `2: words`, as `--label` puts it.
fn read_task(line: &str) -> Option<Said> {
    let (number, words) = line.split_once(':')?;
    let number = number.trim().parse().ok()?;
    let words = words.strip_prefix(' ').unwrap_or(words);
    Some(Said::Task { number, words: words.to_owned() })
}

/// `launch/slurm: _task_finish: node1: task 0: Completed`
fn read_progress(text: &str, members: &BTreeSet<String>) -> Option<Said> {
    let after = |mark: &str| text.find(mark).map_or(text, |at| &text[at + mark.len()..]);
    read_start(after("_task_start: "), members)
        .or_else(|| read_end(after("_task_finish: "), members))
}

/// `Node node1, 1 tasks started`
fn read_start(text: &str, members: &BTreeSet<String>) -> Option<Said> {
    let (list, rest) = text.strip_prefix("Node ")?.split_once(", ")?;
    let nodes = rest.ends_with(" started").then(|| nodes(list, members))?;
    Some(Said::Started { nodes: nodes? })
}

fn read_error(error: &str, members: &BTreeSet<String>) -> Option<Said> {
    let failed = |list: &str, words: &str| {
        let nodes = nodes(list, members)?;
        Some(Said::Failed { nodes, words: words.chars().take(LONGEST).collect() })
    };
    if let Some(list) = error.strip_prefix("Node failure on ") {
        return failed(list.trim(), error);
    }
    // `Task launch for StepId=43.6 failed on node node4: Communication connection failure`
    if error.starts_with("Task launch for ") {
        let (_, rest) = error.split_once(" failed on node ")?;
        let (list, reason) = rest.split_once(": ")?;
        // What was signed for the step is no node's fault.
        return if reason.contains("credential") { None } else { failed(list, reason) };
    }
    read_end(error, members)
}

/// `node2: task 1: Exited with exit code 3`, `node[2-3]: tasks 1-2: Killed`
fn read_end(text: &str, members: &BTreeSet<String>) -> Option<Said> {
    let (list, rest) = text.split_once(": task")?;
    let rest = rest.strip_prefix("s ").or_else(|| rest.strip_prefix(' '))?;
    let (numbers, words) = rest.split_once(": ")?;
    let is_list = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b',' | b'[' | b']');
    if numbers.is_empty() || !numbers.bytes().all(is_list) {
        return None;
    }
    Some(Said::Ended { nodes: nodes(list, members)?, words: words.chars().take(LONGEST).collect() })
}

/// The nodes of a host list, if it is one of nodes of the step.
fn nodes(list: &str, members: &BTreeSet<String>) -> Option<Vec<String>> {
    let nodes = hostlist::expand(list, hostlist::MOST_NODES).ok()?;
    let are_known = !nodes.is_empty() && nodes.iter().all(|node| members.contains(node));
    are_known.then_some(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> BTreeSet<String> {
        ["node1", "node2", "node3", "node4", "a:b"].map(str::to_owned).into()
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    #[track_caller]
    fn check(line: &str, expected: Option<Said>) {
        assert_eq!(read(line, &members()), expected, "{line}");
    }

    fn ended(nodes: &[&str], words: &str) -> Option<Said> {
        Some(Said::Ended { nodes: strings(nodes), words: words.to_owned() })
    }

    fn failed(nodes: &[&str], words: &str) -> Option<Said> {
        Some(Said::Failed { nodes: strings(nodes), words: words.to_owned() })
    }

    #[test]
    fn starts_of_tasks_name_their_nodes() {
        let started = || Some(Said::Started { nodes: strings(&["node1"]) });
        check("srun: launch/slurm: _task_start: Node node1, 1 tasks started", started());
        check("srun: Node node1, 1 tasks started", started());
    }

    #[test]
    fn ends_of_tasks_name_their_nodes() {
        let finish = "srun: launch/slurm: _task_finish: node1: task 0: Completed";
        check(finish, ended(&["node1"], "Completed"));
        check("srun: node[1-2]: tasks 0-1: Completed", ended(&["node1", "node2"], "Completed"));
        let error = "srun: error: node2: task 1: Exited with exit code 3";
        check(error, ended(&["node2"], "Exited with exit code 3"));
        check("srun: error: node3: task 2: Killed", ended(&["node3"], "Killed"));
        let error = "srun: error: node[2-3]: tasks 1-2: Killed";
        check(error, ended(&["node2", "node3"], "Killed"));
        let error = "srun: error: node[1,3-4]: tasks 0,2-3: Terminated";
        check(error, ended(&["node1", "node3", "node4"], "Terminated"));
        let error = "srun: error: node4: task 3: Segmentation fault (core dumped)";
        check(error, ended(&["node4"], "Segmentation fault (core dumped)"));
        check("srun: error: node1: task 0: Out Of Memory", ended(&["node1"], "Out Of Memory"));
    }

    #[test]
    fn nodes_that_fail_are_named() {
        check("srun: error: Node failure on node4", failed(&["node4"], "Node failure on node4"));
        let list = "srun: error: Node failure on node[3-4]";
        check(list, failed(&["node3", "node4"], "Node failure on node[3-4]"));
        let launch = "srun: error: Task launch for StepId=43.6 failed on node node4: Communication connection failure";
        check(launch, failed(&["node4"], "Communication connection failure"));
    }

    #[test]
    fn what_is_about_no_node_is_a_complaint() {
        for words in [
            "Unable to create step for job 7: Requested node configuration is not available",
            "Node failure on stranger",
            "node9: task 1: Killed",
            "Application launch failed: Communication connection failure",
            "task 2 launch failed: Unspecified error",
            "Task launch for nobody",
            "Task launch for StepId=43.6 failed on node node4: Job credential expired",
        ] {
            check(&format!("srun: error: {words}"), Some(Said::Complaint(words.to_owned())));
        }
    }

    #[test]
    fn a_launch_that_failed_is_told_from_other_complaints() {
        for words in [
            "Unable to create step for job 7: Requested node configuration is not available",
            "Unable to confirm allocation for job 41: Unable to contact slurm controller",
            "Unable to create step for job 7: Socket timed out on send/recv operation",
            "Application launch failed: Communication connection failure",
            "Application launch failed: Job credential expired",
            "task 2 launch failed: Unspecified error",
            "tasks 2-3 launch failed: Unspecified error",
        ] {
            assert!(is_about_launch(words), "{words}");
        }
        for words in ["Node failure on node4", "Timed out waiting for job step to complete", ""] {
            assert!(!is_about_launch(words), "{words}");
        }
    }

    #[test]
    fn progress_says_nothing() {
        for line in [
            "srun: launching StepId=1.67 on host node1, 1 tasks: 0",
            "srun: route/default: init: route default plugin loaded",
            "srun: launch/slurm: _task_start: Node stranger, 1 tasks started",
            "srun: launch/slurm: _task_finish: Received task exit notification for 1 task of StepId=1.67 (status=0x0300).",
            "srun: (null)              : node[1-4]",
            "srun: job-name            : torc_workers",
            "srun: Force Terminated StepId=1.67",
            "",
            "srun: ",
            "slurmstepd-node3: error: *** STEP 1.65 ON node3 CANCELLED AT 2026-11-30T16:42:31 ***",
        ] {
            check(line, None);
        }
    }

    #[test]
    fn tasks_cannot_pass_for_srun() {
        let task = |number, words: &str| Some(Said::Task { number, words: words.to_owned() });
        check("1: hello", task(1, "hello"));
        check(
            "12: srun: error: Node failure on node4",
            task(12, "srun: error: Node failure on node4"),
        );
        check(" 2: a: b", task(2, "a: b"));
        check("3: ", task(3, ""));
        check("3:", task(3, ""));
    }

    #[test]
    fn words_are_cut() {
        let Some(Said::Complaint(words)) =
            read(&format!("srun: error: {}", "x".repeat(9999)), &members())
        else {
            panic!("is a complaint");
        };
        assert_eq!(words.len(), LONGEST);
    }

    proptest::proptest! {
        #[test]
        fn no_words_make_it_panic(
            line in "(srun: )?(error: )?(Node failure on |Task launch for |_task_finish: )?(node\\[[0-9,\\-]{0,9}\\]?|\\PC{0,9})(: tasks? [0-9\\-]{0,4}: | failed on node )?\\PC*",
        ) {
            let _ = read(&line, &members());
        }
    }
}
