//! Reads what `scontrol show job -d`, `show node` and `show config` print (scontrol(1)).
//!
//! Pure. Only lines are looked at that begin with a field that Slurm writes there, so that names and
//! paths of users, which stand on lines of their own, cannot pass for others.

use torc_core::time::Timestamp;
use torc_core::traits::NodeState;

use super::duration::parse_moment;
use super::hostlist::{self, HostlistError};

/// An answer of scontrol that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShowError {
    /// What every answer has is not there.
    #[error("`scontrol show {what}` names no {field}")]
    Missing {
        /// `job`, `node` or `config`.
        what: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A list of hosts.
    #[error("`scontrol show job` names nodes that cannot be read: {0}")]
    Nodes(#[from] HostlistError),
}

/// What Slurm says about the job that an allocation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFacts {
    /// Its state, in Slurm's words: `RUNNING`.
    pub state: String,
    /// When it began; the making ready of its nodes is part of it.
    pub began_at: Option<Timestamp>,
    /// When it ends; `None`: it does not, or that is not said.
    pub ends_at: Option<Timestamp>,
    /// Its nodes, in Slurm's order. A node that failed is not among them.
    pub nodes: Vec<String>,
    /// What it was given on them.
    pub grants: Vec<Grant>,
    /// It is being taken away for something else.
    pub is_preempted: bool,
}

/// What a job was given on some nodes, on each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The nodes.
    pub nodes: Vec<String>,
    /// CPUs: hardware threads, unless the site counts cores.
    pub cpus: u32,
    /// Megabytes of memory; 0: memory is not given out.
    pub megabytes: u64,
    /// The numbers of its GPUs on the node.
    pub gpus: Vec<u32>,
}

/// What Slurm says about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// All its CPUs.
    pub cpus: u32,
    /// All its cores.
    pub cores: u32,
    /// All its memory, in megabytes.
    pub megabytes: u64,
    /// Whether it may be given new work.
    pub state: NodeState,
    /// Its state and why, in Slurm's words.
    pub words: String,
}

/// The value of `NAME=VALUE` among the words of a line that begins with `start`.
fn field<'t>(text: &'t str, start: &str, name: &str) -> Option<&'t str> {
    let lines = text.lines().map(str::trim_start).filter(|line| line.starts_with(start));
    lines.flat_map(str::split_whitespace).find_map(|word| value(word, name))
}

fn value<'t>(word: &'t str, name: &str) -> Option<&'t str> {
    word.strip_prefix(name)?.strip_prefix('=')
}

/// Reads `scontrol show job -d`, with times as seconds since the epoch.
///
/// # Errors
/// When its state or nodes are missing.
pub fn job(text: &str) -> Result<JobFacts, ShowError> {
    let state = field(text, "JobState=", "JobState");
    let state = state.ok_or(ShowError::Missing { what: "job", field: "JobState" })?;
    let nodes = field(text, "NodeList=", "NodeList");
    let nodes = nodes.ok_or(ShowError::Missing { what: "job", field: "NodeList" })?;
    let nodes =
        if nodes == "(null)" { Vec::new() } else { hostlist::expand(nodes, hostlist::MOST_NODES)? };
    let preempted = field(text, "PreemptEligibleTime=", "PreemptTime").and_then(parse_moment);
    let grants = text.lines().map(str::trim_start).filter(|line| line.starts_with("Nodes="));
    Ok(JobFacts {
        state: state.to_owned(),
        began_at: field(text, "StartTime=", "StartTime").and_then(parse_moment),
        ends_at: field(text, "StartTime=", "EndTime").and_then(parse_moment),
        nodes,
        grants: grants.filter_map(|line| grant(line).transpose()).collect::<Result<_, _>>()?,
        is_preempted: state == "PREEMPTED" || preempted.is_some(),
    })
}

/// `Nodes=node[1-3] CPU_IDs=0-7 Mem=32768 GRES=gpu:2(IDX:0-1)`.
fn grant(line: &str) -> Result<Option<Grant>, ShowError> {
    let of = |name| line.split_whitespace().find_map(|word| value(word, name));
    let (Some(nodes), Some(cpus)) = (of("Nodes"), of("CPU_IDs")) else { return Ok(None) };
    let Some(cpus) = numbers(cpus) else { return Ok(None) };
    Ok(Some(Grant {
        nodes: hostlist::expand(nodes, hostlist::MOST_NODES)?,
        cpus: u32::try_from(cpus.len()).unwrap_or(u32::MAX),
        megabytes: of("Mem").and_then(|mem| mem.parse().ok()).unwrap_or_default(),
        gpus: of("GRES").map(gpus).unwrap_or_default(),
    }))
}

/// `0-3,8`; at most as many as a node could have.
fn numbers(list: &str) -> Option<Vec<u32>> {
    const MOST: usize = 1 << 16;
    let mut found = Vec::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        found.extend((first..=last).take(MOST - found.len()));
    }
    Some(found)
}

/// The GPUs in a list of generic resources: `gpu:a100:2(IDX:0,2),gpu:k80:1(IDX:3),shard:4(CNT:4)`.
fn gpus(list: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for part in outside_parentheses(list) {
        let Some(rest) = part.strip_prefix("gpu:") else { continue };
        let (counted, details) = rest.split_once('(').unwrap_or((rest, ""));
        let index =
            details.strip_prefix("IDX:").and_then(|list| numbers(list.trim_end_matches(')')));
        found.extend(index.unwrap_or_else(|| {
            // Sites that name no device files: any numbers will do.
            let count = counted.rsplit(':').next().and_then(|count| count.parse::<u16>().ok());
            let first = u32::try_from(found.len()).unwrap_or_default();
            (first..first + u32::from(count.unwrap_or_default())).collect()
        }));
    }
    found
}

fn outside_parentheses(list: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    let parts = list.split(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.collect()
}

/// Reads `scontrol show node` of any number of nodes. Nodes that are not described well enough are left
/// out.
pub fn nodes(text: &str) -> Vec<NodeFacts> {
    let mut blocks: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("NodeName=") {
        let block = &rest[start..];
        let end = block[1..].find("\nNodeName=").map_or(block.len(), |end| end + 1);
        blocks.push(&block[..end]);
        rest = &block[end..];
    }
    blocks.into_iter().filter_map(node).collect()
}

fn node(block: &str) -> Option<NodeFacts> {
    let number = |start: &str, name: &str| field(block, start, name)?.parse::<u32>().ok();
    let name = field(block, "NodeName=", "NodeName")?;
    let sockets = number("RealMemory=", "Sockets")?;
    let state = field(block, "State=", "State")?;
    let reason = block.lines().find_map(|line| line.trim_start().strip_prefix("Reason="));
    let words = reason.map_or_else(|| state.to_owned(), |reason| format!("{state}: {reason}"));
    Some(NodeFacts {
        name: name.to_owned(),
        cpus: number("CPUAlloc=", "CPUTot")?,
        cores: sockets.saturating_mul(number("NodeName=", "CoresPerSocket")?),
        megabytes: number("RealMemory=", "RealMemory")?.into(),
        state: node_state(state),
        words,
    })
}

/// `ALLOCATED`, `DOWN+NOT_RESPONDING`, `IDLE+DRAIN`, and from other commands `down*` (sinfo(1), NODE
/// STATE CODES).
pub fn node_state(words: &str) -> NodeState {
    let words =
        words.trim_end_matches(['*', '~', '#', '%', '$', '@', '^', '!', '-']).to_ascii_uppercase();
    let mut state = NodeState::Up;
    for word in words.split('+') {
        match word {
            "DOWN" | "ERROR" | "FAIL" | "FUTURE" | "POWERED_DOWN" | "POWERING_DOWN" | "UNKNOWN" => {
                return NodeState::Down;
            }
            // It may come back; nothing can be started on it meanwhile.
            "NOT_RESPONDING" | "DRAIN" | "DRAINED" | "DRAINING" | "FAILING" | "REBOOT"
            | "REBOOT_REQUESTED" | "REBOOT_ISSUED" | "POWER_DOWN" | "BLOCKED" => {
                state = NodeState::Draining;
            }
            _ => {}
        }
    }
    state
}

/// The number of steps that one job may have, from `scontrol show config`.
pub fn most_steps(text: &str) -> Option<u32> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("MaxStepCount"))?;
    line.trim_start().strip_prefix('=')?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "JobId=44 JobName=NodeList=evil
   UserId=root(0) GroupId=root(0) MCS_label=N/A
   JobState=RUNNING Reason=None Dependency=(null)
   SubmitTime=1795511228 EligibleTime=1795511228
   StartTime=1795511229 EndTime=1795511829 Deadline=N/A
   SuspendTime=None SecsPreSuspend=0 LastSchedEval=1795511229 Scheduler=Main
   ReqNodeList=node9 ExcNodeList=(null)
   NodeList=node[1-3]
   NumNodes=3 NumCPUs=5 NumTasks=5 CPUs/Task=1 ReqB:S:C:T=0:0:*:*
   JOB_GRES=gpu:3
     Nodes=node1 CPU_IDs=0-2 Mem=3000 GRES=gpu:1(IDX:0)
     Nodes=node[2-3] CPU_IDs=0,3 Mem=1000 GRES=gpu:a:1(IDX:1),gpu:b:2(IDX:0,2),shard:4(CNT:4)
   Command=/home/EndTime=7 Nodes=node8 CPU_IDs=1
   WorkDir=/tmp
";

    #[test]
    fn a_job_is_read() {
        let grant = |nodes: &[&str], cpus, megabytes, gpus: &[u32]| Grant {
            nodes: nodes.iter().map(|&node| node.to_owned()).collect(),
            cpus,
            megabytes,
            gpus: gpus.to_vec(),
        };
        let expected = JobFacts {
            state: "RUNNING".to_owned(),
            began_at: Some(Timestamp(1_795_511_229_000)),
            ends_at: Some(Timestamp(1_795_511_829_000)),
            nodes: ["node1", "node2", "node3"].map(str::to_owned).to_vec(),
            grants: vec![
                grant(&["node1"], 3, 3000, &[0]),
                grant(&["node2", "node3"], 2, 1000, &[1, 0, 2]),
            ],
            is_preempted: false,
        };
        assert_eq!(job(JOB), Ok(expected));
    }

    #[test]
    fn a_job_that_is_over_has_what_it_has() {
        let text = "   JobState=PENDING Reason=x\n   StartTime=Unknown EndTime=Unknown Deadline=N/A\n   NodeList=(null)\n";
        let facts = job(text).expect("is readable");
        assert_eq!((facts.began_at, facts.ends_at), (None, None));
        assert_eq!((facts.nodes.len(), facts.grants.len()), (0, 0));
        let preempted = "   JobState=RUNNING Reason=None\n   PreemptEligibleTime=5 PreemptTime=77\n   NodeList=n\n";
        assert!(job(preempted).expect("is readable").is_preempted);
        let spared = preempted.replace("=77", "=None");
        assert!(!job(&spared).expect("is readable").is_preempted);
        let missing = |field| Err(ShowError::Missing { what: "job", field });
        assert_eq!(job("slurm_load_jobs error: x"), missing("JobState"));
        assert_eq!(job("JobState=RUNNING"), missing("NodeList"));
        assert!(matches!(job("JobState=RUNNING\nNodeList=n[1-"), Err(ShowError::Nodes(_))));
    }

    #[test]
    fn gpus_are_counted_with_and_without_numbers() {
        let check = |list: &str, expected: &[u32]| assert_eq!(gpus(list), expected, "{list}");
        check("", &[]);
        check("gpu:2(IDX:0-1)", &[0, 1]);
        check("gpu:a100:3(IDX:0,2-3)", &[0, 2, 3]);
        check("gpu:2(CNT:2),gpu:x:1", &[0, 1, 2]);
        check("gpu:0", &[]);
        check("shard:2(IDX:0-1),license:x", &[]);
    }

    const NODES: &str = "NodeName=thread1 Arch=x86_64 CoresPerSocket=8
   CPUAlloc=16 CPUEfctv=16 CPUTot=16 CPULoad=0.31
   Gres=(null)
   RealMemory=32768 AllocMem=32768 FreeMem=21854 Sockets=1 Boards=1
   State=ALLOCATED ThreadsPerCore=2 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A
   Comment=State=DOWN

NodeName=node4 Arch=x86_64 CoresPerSocket=8
   CPUAlloc=0 CPUEfctv=8 CPUTot=8 CPULoad=0.31
   RealMemory=32768 AllocMem=0 FreeMem=1 Sockets=1 Boards=1
   State=DOWN+NOT_RESPONDING ThreadsPerCore=1 TmpDisk=0
   Reason=Not responding [root@1795511229]

NodeName=short
";

    #[test]
    fn nodes_are_read() {
        let node = |name: &str, cpus, state, words: &str| NodeFacts {
            name: name.to_owned(),
            cpus,
            cores: 8,
            megabytes: 32768,
            state,
            words: words.to_owned(),
        };
        let failed = "DOWN+NOT_RESPONDING: Not responding [root@1795511229]";
        let expected = [
            node("thread1", 16, NodeState::Up, "ALLOCATED"),
            node("node4", 8, NodeState::Down, failed),
        ];
        assert_eq!(nodes(NODES), expected);
        assert_eq!(nodes(""), []);
    }

    #[test]
    fn states_of_nodes() {
        let check = |words: &str, expected| assert_eq!(node_state(words), expected, "{words}");
        for up in [
            "ALLOCATED",
            "MIXED",
            "IDLE",
            "COMPLETING",
            "ALLOCATED+PLANNED",
            "IDLE+MAINTENANCE",
            "mixed",
            "SOMETHING_NEW",
        ] {
            check(up, NodeState::Up);
        }
        for draining in [
            "IDLE+DRAIN",
            "ALLOCATED+DRAIN+REBOOT",
            "ALLOCATED+NOT_RESPONDING",
            "drained",
            "ALLOCATED+REBOOT_REQUESTED",
        ] {
            check(draining, NodeState::Draining);
        }
        for down in [
            "DOWN",
            "DOWN+NOT_RESPONDING",
            "IDLE+FAIL",
            "down*",
            "DOWN+DRAIN",
            "IDLE+DRAIN+POWERED_DOWN",
        ] {
            check(down, NodeState::Down);
        }
    }

    #[test]
    fn the_most_steps() {
        assert_eq!(
            most_steps("MaxNodeCount            = 6\nMaxStepCount            = 40000\n"),
            Some(40_000)
        );
        assert_eq!(most_steps("MaxStepCount = many"), None);
        assert_eq!(most_steps(""), None);
    }

    proptest::proptest! {
        #[test]
        fn no_words_make_it_panic(text in "((JobState|NodeList|Nodes|CPU_IDs|GRES|NodeName|State|Sockets)=[a-z0-9\\[\\](),:-]{0,12}[ \n]?){0,8}") {
            let _ = job(&text);
            nodes(&text);
            most_steps(&text);
        }
    }
}
