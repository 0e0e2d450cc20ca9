//! How many CPUs and GPUs of each node a Slurm scheduler asks for that shares its nodes with others.
//!
//! Owns: what sbatch makes of the options that say so (sbatch(1)), in `extra`, `slurm_defaults` and the
//! scheduler's own fields. Does not know: partitions that give whole nodes whatever is asked for.
//! Invariant: where an option has a say in it that is not understood here, nothing is known.

use std::collections::HashMap;

use serde_json::Value as Json;

/// CPUs of each node, where nodes are shared with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SharedCpus {
    /// So many, which Slurm rounds up to whole cores.
    Stated(u32),
    /// Nobody says how many: one core, unless the partition gives more by itself.
    Unstated,
}

/// Options that have a say in it and are not understood, by how their names begin.
const UNREAD: [&str; 18] = [
    "core-spec",
    "cores-per-socket",
    "cpus-per-g",
    "cpus-per-t",
    "exclus",
    "extra-node-info",
    "gpus-per-s",
    "gpus-per-t",
    "minc",
    "ntasks",
    "overs",
    "sockets-per-node",
    "spread-job",
    "thread-spec",
    "threads-per-core",
    "tres-per-task",
    "B",
    "S",
];
/// Options of sbatch by which somebody chooses to share nodes, where `exclusive` is not given.
pub const SHARING: [&str; 5] =
    ["exclusive", "oversubscribe", "ntasks", "cpus-per-task", "mem-per-cpu"];
/// Options that are understood.
const READ: [&str; 6] =
    ["exclusive", "oversubscribe", "ntasks", "cpus-per-task", "ntasks-per-node", "mincpus"];

/// The options of sbatch that count, by their long names; an empty value: none was given.
#[derive(Debug, Default)]
struct Options {
    given: HashMap<String, String>,
    /// Options that are named, be it to switch them off.
    named: Vec<String>,
}

/// What the settings of a scheduler with so many nodes say; `None`: it has whole nodes, or it is not
/// known.
pub(super) fn shared_cpus(settings: &Json, nodes: u32) -> Option<SharedCpus> {
    let options = Options::of_shared(settings)?;
    let is_read = |name: &String| READ.contains(&name.as_str());
    let has_a_say = |name: &&String| UNREAD.iter().any(|start| name.starts_with(start));
    let mut names = options.given.keys().filter(|name| !is_read(name));
    if names.any(|name| has_a_say(&name)) {
        return None;
    }
    let asks_for_gpus = settings.get("gres").is_some() || options.ask_for_gpus();
    options.per_node(nodes, asks_for_gpus)
}

/// GPUs of each node that the settings of a scheduler ask for; `None`: it has whole nodes, or it is not known.
pub(super) fn shared_gpus(settings: &Json) -> Option<u32> {
    let options = Options::of_shared(settings)?;
    if options.ask_for_gpus() {
        return None;
    }
    let Some(gres) = settings.get("gres") else { return Some(0) };
    let one = gres.as_str().filter(|gres| !gres.contains(','))?;
    let words: Vec<&str> = one.split(':').collect();
    match words[..] {
        ["gpu"] => Some(1),
        ["gpu", count] | ["gpu", _, count] => count.parse().ok(),
        _ => None,
    }
}

impl Options {
    /// Those of a scheduler that shares its nodes; `None`: it does not, or that is not known.
    fn of_shared(settings: &Json) -> Option<Self> {
        let mut options = Self::default();
        options.take_defaults(settings);
        if let Some(tasks) = settings.get("ntasks_per_node") {
            options.take("ntasks-per-node", tasks.to_string());
        }
        let own = settings.get("exclusive").and_then(Json::as_bool);
        if own.is_some() {
            options.given.remove("exclusive");
        }
        options.take_extra(settings.get("extra").and_then(Json::as_str).unwrap_or_default())?;
        (!options.is_whole(own)).then_some(options)
    }

    /// Whether options, other than the scheduler's own `gres`, may ask for GPUs. sbatch takes the beginning of a name,
    /// too.
    fn ask_for_gpus(&self) -> bool {
        let may = |name: &String| ["gp", "gr", "tre"].iter().any(|start| name.starts_with(start));
        self.given.keys().any(may)
    }

    fn take(&mut self, name: &str, value: String) {
        let name = match name {
            "c" => "cpus-per-task",
            "n" => "ntasks",
            "s" | "share" => "oversubscribe",
            "G" => "gpus",
            other => other,
        };
        self.named.push(name.to_owned());
        self.given.insert(name.to_owned(), value);
    }

    fn take_defaults(&mut self, settings: &Json) {
        for (name, value) in settings["defaults"].as_object().into_iter().flatten() {
            match value {
                Json::Bool(false) | Json::Null => self.named.push(name.clone()),
                Json::Bool(true) => self.take(name, String::new()),
                Json::String(text) => self.take(name, text.clone()),
                other => self.take(name, other.to_string()),
            }
        }
    }

    /// Takes the words of `extra`. `None`: they have quotes, which only a shell reads.
    fn take_extra(&mut self, extra: &str) -> Option<()> {
        if extra.contains(['\'', '"', '\\']) {
            return None;
        }
        let mut words = extra.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let (name, value) = match word.strip_prefix("--") {
                Some(long) => match long.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (long, None),
                },
                None => {
                    let short = word.strip_prefix('-')?;
                    let (name, rest) = short.split_at_checked(1)?;
                    (name, Some(rest).filter(|rest| !rest.is_empty()))
                }
            };
            let apart = || words.next_if(|next| !next.starts_with('-'));
            let value = value.or_else(apart).unwrap_or_default();
            self.take(name, value.to_owned());
        }
        Some(())
    }

    /// Whether the nodes are not shared, or shared in a way that is not understood.
    fn is_whole(&self, own: Option<bool>) -> bool {
        let chooses_to_share = SHARING.iter().any(|name| self.named.iter().any(|one| one == name));
        // A plain one is whole nodes, and with a value it is neither.
        self.given.contains_key("exclusive") || own.unwrap_or(!chooses_to_share)
    }

    fn per_node(&self, nodes: u32, asks_for_gpus: bool) -> Option<SharedCpus> {
        let number = |name: &str| match self.given.get(name) {
            Some(text) => text.parse::<u32>().ok().map(Some),
            None => Some(None),
        };
        let (cpus, least) = (number("cpus-per-task")?, number("mincpus")?);
        if cpus.is_none() && (asks_for_gpus || self.named.iter().any(|one| one == "mem-per-cpu")) {
            // Sites may tie CPUs to GPUs, and memory to CPUs.
            return None;
        }
        let tasks = match (number("ntasks-per-node")?, number("ntasks")?) {
            (Some(tasks), _) => Some(tasks),
            (None, Some(tasks)) if nodes == 1 => Some(tasks),
            // How they are spread is Slurm's choice.
            (None, Some(_)) => return None,
            (None, None) => None,
        };
        if tasks.is_none() && cpus.is_none() && least.is_none() {
            return Some(SharedCpus::Unstated);
        }
        let product = tasks.unwrap_or(1).saturating_mul(cpus.unwrap_or(1));
        Some(SharedCpus::Stated(product.max(least.unwrap_or(1))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(settings: Json, expected: Option<SharedCpus>) {
        let nodes = settings["nodes"].as_u64().unwrap_or(1);
        let nodes = u32::try_from(nodes).expect("it is small");
        assert_eq!(shared_cpus(&settings, nodes), expected, "{settings}");
    }

    #[test]
    fn whole_nodes_have_all_their_cpus() {
        check(json!({}), None);
        check(json!({"exclusive": true, "extra": "--cpus-per-task=4"}), None);
        check(json!({"ntasks_per_node": 4, "extra": "--mem=4G -C fast"}), None);
        check(json!({"exclusive": false, "extra": "--exclusive"}), None);
        check(json!({"defaults": {"exclusive": true}}), None);
    }

    #[test]
    fn shared_nodes_give_what_is_asked_for() {
        let check = |settings: Json, cpus| check(settings, Some(SharedCpus::Stated(cpus)));
        check(json!({"exclusive": false, "extra": "--cpus-per-task=4"}), 4);
        check(json!({"extra": "-c 4 --hold"}), 4);
        check(json!({"extra": "-c4"}), 4);
        check(json!({"defaults": {"cpus-per-task": 6}}), 6);
        check(json!({"defaults": {"cpus-per-task": 6}, "extra": "-c 2"}), 2);
        check(json!({"exclusive": false, "ntasks_per_node": 3}), 3);
        check(json!({"exclusive": false, "ntasks_per_node": 3, "extra": "-c2"}), 6);
        check(json!({"extra": "--ntasks 8 -C fast"}), 8);
        check(json!({"exclusive": false, "extra": "--mincpus=5"}), 5);
        check(json!({"exclusive": false, "gres": "gpu:1", "extra": "-c4"}), 4);
        check(json!({"extra": "-c4 --gpus-per-node=1"}), 4);
        check(json!({"exclusive": false, "defaults": {"exclusive": true}, "extra": "-c4"}), 4);
        check(json!({"nodes": 2, "extra": "--ntasks=4 --ntasks-per-node=2"}), 2);
    }

    #[test]
    fn shared_nodes_give_the_gpus_that_are_asked_for() {
        let check = |settings: Json, expected: Option<u32>| {
            assert_eq!(shared_gpus(&settings), expected, "{settings}");
        };
        check(json!({"exclusive": false}), Some(0));
        check(json!({"extra": "-c4"}), Some(0));
        check(json!({"exclusive": false, "gres": "gpu"}), Some(1));
        check(json!({"exclusive": false, "gres": "gpu:2"}), Some(2));
        check(json!({"exclusive": false, "gres": "gpu:a100:3"}), Some(3));
        check(json!({"exclusive": false, "gres": "gpu:a100"}), None);
        check(json!({"exclusive": false, "gres": "gpu:1,tmp:4"}), None);
        check(json!({"exclusive": false, "extra": "--gpus-per-node=1"}), None);
        check(json!({"exclusive": false, "extra": "-G 2"}), None);
        check(json!({"extra": "-c4 --gres=gpu:1"}), None);
        check(json!({"defaults": {"gpus-per-node": 2}, "extra": "-c4"}), None);
        check(json!({"gres": "gpu:1"}), None);
        check(json!({}), None);
    }

    #[test]
    fn nobody_says_how_many() {
        let check = |settings: Json| check(settings, Some(SharedCpus::Unstated));
        check(json!({"exclusive": false}));
        check(json!({"exclusive": false, "mem": "4g", "nodes": 4}));
        check(json!({"extra": "--oversubscribe"}));
        check(json!({"defaults": {"exclusive": false}}));
        check(json!({"exclusive": false, "extra": "--comment=c4 --hold"}));
    }

    #[test]
    fn what_is_not_understood_is_not_known() {
        let check = |settings: Json| check(settings, None);
        check(json!({"exclusive": false, "extra": "--comment='-c 4'"}));
        check(json!({"exclusive": false, "extra": "-c many"}));
        check(json!({"exclusive": false, "extra": "--cpus-per-t=4"}));
        check(json!({"exclusive": false, "extra": "--cpus-per-gpu=4", "gres": "gpu:2"}));
        check(json!({"exclusive": false, "gres": "gpu:2"}));
        check(json!({"exclusive": false, "extra": "stray"}));
        check(json!({"nodes": 2, "extra": "--ntasks=8"}));
        check(json!({"extra": "--exclusive=user -c4"}));
        check(json!({"extra": "--mem-per-cpu=2G"}));
        check(json!({"exclusive": false, "extra": "-B 2:4"}));
        check(json!({"extra": "-c4 --gpus-per-task=1"}));
        check(json!({"exclusive": false, "extra": "--gpus-per-node=1"}));
    }
}
