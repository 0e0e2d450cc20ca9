//! The limits that cgroup v2 sets to this process: its own group's and those of all groups above.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the unified hierarchy is mounted (`cgroups(7)`).
const MOUNT: &str = "/sys/fs/cgroup";

/// What this process's cgroups leave to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Whole CPUs' worth of time, at least 1; `None`: unlimited.
    pub(super) cpus: Option<usize>,
    /// Bytes; `None`: unlimited.
    pub(super) memory: Option<u64>,
}

/// Reads the limits. What cannot be read does not limit: there may be no cgroup v2.
pub(super) fn limits() -> Limits {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(group) = unified_group(&membership) else { return Limits::default() };
    limits_below(Path::new(MOUNT), group, |file| fs::read_to_string(file).ok())
}

/// The group of the unified hierarchy, which has number 0 and no controllers.
fn unified_group(membership: &str) -> Option<&str> {
    membership.lines().find_map(|line| line.strip_prefix("0::/"))
}

fn limits_below(mount: &Path, group: &str, read: impl Fn(PathBuf) -> Option<String>) -> Limits {
    let own = mount.join(group);
    let groups = || own.ancestors().take_while(|folder| folder.starts_with(mount));
    Limits {
        cpus: groups().filter_map(|group| parse_cpus(&read(group.join("cpu.max"))?)).min(),
        memory: groups()
            .filter_map(|group| read(group.join("memory.max"))?.trim().parse().ok())
            .min(),
    }
}

/// `cpu.max`: microseconds of CPU time, or `max`, and the period that they are for.
fn parse_cpus(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (usize, usize) = (quota.parse().ok()?, period.parse().ok()?);
    Some(quota.checked_div(period)?.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_on_the_way_up_counts() {
        let files = [
            ("/cg/a/b/cpu.max", "max 100000\n"),
            ("/cg/a/cpu.max", "350000 100000\n"),
            ("/cg/cpu.max", "800000 100000\n"),
            ("/cg/a/b/memory.max", "4096\n"),
            ("/cg/a/memory.max", "max\n"),
            ("/memory.max", "1\n"),
        ];
        let read = |path: PathBuf| {
            let found = files.iter().find(|(name, _)| path == Path::new(name));
            found.map(|(_, text)| (*text).to_owned())
        };
        let limits = limits_below(Path::new("/cg"), "a/b", read);
        assert_eq!(limits, Limits { cpus: Some(3), memory: Some(4096) });
        assert_eq!(limits_below(Path::new("/cg"), "", |_| None), Limits::default());
    }

    #[test]
    fn part_of_a_cpu_counts_as_one() {
        assert_eq!(parse_cpus("50000 100000"), Some(1));
        assert_eq!(parse_cpus("max 100000"), None);
        assert_eq!(parse_cpus("1 0"), None);
    }

    #[test]
    fn the_unified_group_is_found_among_older_ones() {
        assert_eq!(unified_group("4:memory:/x\n0::/user.slice/y\n"), Some("user.slice/y"));
        assert_eq!(unified_group("4:memory:/x\n"), None);
    }
}
