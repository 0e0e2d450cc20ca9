//! What the cluster has: its partitions, their limits, and the kinds of node in them, from sinfo.
//!
//! Pure. Nodes of every state are counted, since those that are down or drained today come back: that
//! nothing could *ever* fit must not depend on the day. How many of them can be used now stands beside.

use serde::{Deserialize, Serialize};
use torc_core::traits::{NodeShape, Shapes};

use super::duration::{self, TimeLimit};
use super::records::{self, Garbled};

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// Jobs that name no partition are in this one.
    pub is_default: bool,
    /// Its state in Slurm's words: `up`, `down` (takes requests, starts nothing), `drain` (starts what
    /// waits, takes none), `inact`.
    pub state: String,
    /// The longest that a job may take.
    pub time_limit: TimeLimit,
    /// How long a job may take that says nothing about it.
    pub default_time: TimeLimit,
    /// The most nodes of a job; `None`: no such limit.
    pub max_nodes: Option<u32>,
    /// The kinds of its nodes.
    pub kinds: Vec<NodeKind>,
}

/// Nodes of a partition that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeKind {
    /// What each has, and how many there are, whatever their state.
    pub shape: NodeShape,
    /// How many of them are neither down nor drained nor failing.
    pub usable: u32,
}

impl Partition {
    /// All its nodes, whatever their state.
    pub fn nodes(&self) -> u32 {
        self.kinds.iter().map(|kind| kind.shape.count).fold(0, u32::saturating_add)
    }

    /// Those of its nodes that can be used now.
    pub fn usable_nodes(&self) -> u32 {
        self.kinds.iter().map(|kind| kind.usable).fold(0, u32::saturating_add)
    }

    /// Whether requests are accepted.
    pub fn takes_requests(&self) -> bool {
        matches!(self.state.as_str(), "up" | "down")
    }
}

/// sinfo's arguments: one record for each kind and state of node of each partition that this user may
/// use. `--exact`, since sinfo would otherwise draw unlike nodes together and show the least of each.
pub(super) fn ask() -> Vec<String> {
    let format = records::format("RPalLsDTcmGZ");
    vec!["--noheader".to_owned(), "--exact".to_owned(), format!("--format={format}")]
}

/// sinfo's answer.
///
/// # Errors
/// When it is garbled.
pub(super) fn read(answer: &str) -> Result<Vec<Partition>, Garbled> {
    let mut partitions: Vec<Partition> = Vec::new();
    for record in records::records::<12>("sinfo", answer)? {
        let found = partition(&record)?;
        let kind = kind(&record)?;
        let index = partitions.iter().position(|known| known.name == found.name);
        let index = index.unwrap_or_else(|| {
            partitions.push(found);
            partitions.len() - 1
        });
        add(&mut partitions[index].kinds, kind);
    }
    Ok(partitions)
}

fn partition(record: &[&str; 12]) -> Result<Partition, Garbled> {
    let [name, marked, state, limit, default, size, ..] = record;
    let time = |text: &str| duration::parse_limit(text).map_err(|_| Garbled::new("sinfo", text));
    Ok(Partition {
        name: (*name).to_owned(),
        // `%P` is the name with a star where it is the default one; a name may end with a star itself.
        is_default: marked.strip_suffix('*') == Some(*name),
        state: (*state).to_owned(),
        time_limit: time(limit)?,
        default_time: time(default)?,
        max_nodes: size.rsplit('-').next().and_then(|most| most.parse().ok()),
        kinds: Vec::new(),
    })
}

fn kind(record: &[&str; 12]) -> Result<NodeKind, Garbled> {
    let [.., count, state, cpus, memory, gres, threads] = record;
    let number =
        |text: &str| text.trim_end_matches('+').parse().map_err(|_| Garbled::new("sinfo", text));
    let (count, megabytes): (u32, u32) = (number(count)?, number(memory)?);
    let shape = NodeShape {
        cpus: number(cpus)?,
        threads_per_core: number(threads)?.max(1),
        memory: u64::from(megabytes) << 20,
        gpus: gpus(gres),
        count,
    };
    let usable = if is_usable(state) { count } else { 0 };
    Ok(NodeKind { shape, usable })
}

fn add(kinds: &mut Vec<NodeKind>, kind: NodeKind) {
    match kinds.iter_mut().find(|known| is_alike(&known.shape, &kind.shape)) {
        Some(known) => {
            known.shape.count = known.shape.count.saturating_add(kind.shape.count);
            known.usable = known.usable.saturating_add(kind.usable);
        }
        // A partition without nodes has a record, too.
        None if kind.shape.count > 0 => kinds.push(kind),
        None => {}
    }
}

/// Whether they are of one kind, however many there are of each.
fn is_alike(one: &NodeShape, other: &NodeShape) -> bool {
    NodeShape { count: other.count, ..one.clone() } == *other
}

/// The GPUs in a list of generic resources: `gpu:a100:4(S:0-1),craynetwork:4`, `gpu:2`, `gpu`, `(null)`.
/// A count may be in thousands (`k`), as Slurm abbreviates.
pub(super) fn gpus(gres: &str) -> u32 {
    let mut total = 0_u32;
    for item in outside_parentheses(gres).split(',') {
        let mut parts = item.trim().split(':');
        if !parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gpu")) {
            continue;
        }
        // Without a count it is one; a type is no number.
        let count = parts.next_back().map_or(Some(1), count_of).unwrap_or(1);
        total = total.saturating_add(count);
    }
    total
}

fn count_of(text: &str) -> Option<u32> {
    match text.strip_suffix(['k', 'K']) {
        Some(thousands) => thousands.parse::<u32>().ok()?.checked_mul(1024),
        None => text.parse().ok(),
    }
}

/// Sockets stand in parentheses, with commas of their own.
fn outside_parentheses(text: &str) -> String {
    let mut depth = 0_u32;
    let is_outside = |c: &char| match c {
        '(' => {
            depth += 1;
            false
        }
        ')' => {
            depth = depth.saturating_sub(1);
            false
        }
        _ => depth == 0,
    };
    text.chars().filter(is_outside).collect()
}

/// Whether nodes in this state (sinfo(1), NODE STATE CODES) may be given to a job, now or when they have
/// been woken. A trailing `*` says that they do not answer.
fn is_usable(state: &str) -> bool {
    const FLAGS: [char; 8] = ['~', '#', '!', '%', '$', '@', '^', '-'];
    let name = state.trim_end_matches(FLAGS).to_ascii_lowercase();
    matches!(
        name.as_str(),
        "idle"
            | "allocated"
            | "alloc"
            | "mixed"
            | "mix"
            | "completing"
            | "comp"
            | "planned"
            | "plnd"
            | "reserved"
            | "resv"
            | "allocated+"
            | "blocked"
            | "powering_up"
            | "powering_down"
            | "powered_down"
            | "pow_dn"
            | "pow_up"
            | "power_up"
            | "power_down"
            | "reboot"
            | "reboot_issued"
            | "reboot_requested"
    )
}

/// The kinds of node that could serve a job in one of these partitions, or in the default one. Where a
/// job may be in several, it is in one of them: of a kind that more than one has, the larger number counts.
pub(super) fn shapes(partitions: &[Partition], wanted: Option<&[String]>) -> Shapes {
    let is_meant = |partition: &&Partition| match wanted {
        Some(names) => names.contains(&partition.name),
        None => partition.is_default,
    };
    let mut shapes: Vec<NodeShape> = Vec::new();
    for kind in partitions.iter().filter(is_meant).flat_map(|partition| &partition.kinds) {
        match shapes.iter_mut().find(|known| is_alike(known, &kind.shape)) {
            Some(known) => known.count = known.count.max(kind.shape.count),
            None => shapes.push(kind.shape.clone()),
        }
    }
    if shapes.is_empty() { Shapes::Unknown } else { Shapes::Known(shapes) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::slurm::records::tests::answer;

    fn shape(cpus: u32, threads: u32, gibibytes: u64, gpus: u32, count: u32) -> NodeShape {
        NodeShape { cpus, threads_per_core: threads, memory: gibibytes << 30, gpus, count }
    }

    fn cluster() -> Vec<Partition> {
        let text = answer(&[
            "main|main*|up|1-00:00:00|30:00|1-infinite|3|idle|8|32768|gpu:2|1",
            "main|main*|up|1-00:00:00|30:00|1-infinite|1|down*|8|32768|gpu:2|1",
            "main|main*|up|1-00:00:00|30:00|1-infinite|2|mixed~|64|262144|gpu:a100:4(S:0-1),craynetwork:4|2",
            "debug|debug|drain|infinite|n/a|1-4|1|idle|8|32768|gpu:2|1",
            "debug|debug|drain|infinite|n/a|1-4|2|allocated|4|1024|(null)|2",
            "empty|empty|inact|12:00:00|n/a|1-infinite|0|n/a|0|0|(null)|0",
        ]);
        read(&text).unwrap()
    }

    #[test]
    fn partitions_have_kinds_of_node() {
        let [main, debug, empty] = <[Partition; 3]>::try_from(cluster()).unwrap();
        let kind = |shape, usable| NodeKind { shape, usable };
        assert_eq!(main.kinds, [kind(shape(8, 1, 32, 2, 4), 3), kind(shape(64, 2, 256, 4, 2), 2)]);
        assert_eq!((main.nodes(), main.usable_nodes()), (6, 5));
        let limits = |partition: &Partition| (partition.time_limit, partition.default_time);
        let (day, half_hour) = (Duration::from_secs(86_400), Duration::from_secs(1800));
        assert_eq!(limits(&main), (TimeLimit::For(day), TimeLimit::For(half_hour)));
        assert_eq!(limits(&debug), (TimeLimit::Unlimited, TimeLimit::NotSaid));
        assert_eq!((main.is_default, debug.is_default), (true, false));
        assert_eq!((main.max_nodes, debug.max_nodes), (None, Some(4)));
        assert_eq!((main.takes_requests(), debug.takes_requests()), (true, false));
        assert_eq!((empty.nodes(), empty.takes_requests()), (0, false));
    }

    #[test]
    fn shapes_are_those_of_the_partitions_that_are_meant() {
        let check = |wanted: Option<&[&str]>, expected: Shapes| {
            let wanted: Option<Vec<String>> =
                wanted.map(|names| names.iter().map(ToString::to_string).collect());
            assert_eq!(shapes(&cluster(), wanted.as_deref()), expected, "{wanted:?}");
        };
        let main = [shape(8, 1, 32, 2, 4), shape(64, 2, 256, 4, 2)];
        check(None, Shapes::Known(main.to_vec()));
        check(Some(&["debug"]), Shapes::Known(vec![shape(8, 1, 32, 2, 1), shape(4, 2, 1, 0, 2)]));
        let both = [main.to_vec(), vec![shape(4, 2, 1, 0, 2)]].concat();
        check(Some(&["main", "debug"]), Shapes::Known(both));
        check(Some(&["nope"]), Shapes::Unknown);
        check(Some(&["empty"]), Shapes::Unknown);
        assert_eq!(shapes(&[], None), Shapes::Unknown);
    }

    #[test]
    fn gpus_are_counted() {
        let check = |gres: &str, expected| assert_eq!(gpus(gres), expected, "{gres}");
        check("(null)", 0);
        check("", 0);
        check("gpu:2", 2);
        check("gpu", 1);
        check("gpu:a100:4(S:0-1),craynetwork:4", 4);
        check("gpu:a100:4(S:0,2),gpu:v100:2(S:1)", 6);
        check("gpu:tesla", 1);
        check("gpumem:80G,mps:400", 0);
        check("craynetwork:4", 0);
        check("gpu:1k", 1024);
        check("gpu:99999999999", 1);
    }

    #[test]
    fn states_tell_what_can_be_used() {
        for state in [
            "idle",
            "allocated",
            "mixed",
            "mixed-",
            "idle~",
            "idle#",
            "planned",
            "completing",
            "reserved",
        ] {
            assert!(is_usable(state), "{state}");
        }
        for state in [
            "down", "down*", "idle*", "drained", "draining", "drained*", "fail", "failing",
            "maint", "unknown", "inval", "future", "error", "n/a", "",
        ] {
            assert!(!is_usable(state), "{state}");
        }
    }

    #[test]
    fn garbage_is_an_error() {
        for text in [
            "502 Bad Gateway",
            &answer(&["main|main*|up"]),
            &answer(&["m|m|up|x|n/a|1|1|idle|8|1|(null)|1"]),
            &answer(&["m|m|up|1:00|n/a|1|1|idle|many|1|(null)|1"]),
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(read(""), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(text in "\\PC*", fields in "[0-9a-z*:,()+\u{1e}\u{1f}\n\\-]{0,80}") {
            for text in [text, fields] {
                let _ = read(&text);
                let _ = gpus(&text);
            }
        }
    }
}
