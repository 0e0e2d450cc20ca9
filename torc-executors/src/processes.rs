//! Reads the kernel's process table under `/proc`.
//!
//! Knows processes, no steps. A process can end at any time, so whatever cannot be read is taken as
//! gone. A process id alone names nobody for long: [`Process::is_same`] compares start times too.

use std::fs;
use std::io;

/// What `/proc/PID/stat` says about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: i32,
    /// Its parent.
    pub(crate) parent: i32,
    /// Its process group.
    pub(crate) group: i32,
    /// Its session.
    pub(crate) session: i32,
    /// Whether it has ended and only waits to be reaped.
    pub(crate) is_zombie: bool,
    threads: u32,
    start: u64,
    resident_pages: u64,
}

impl Process {
    /// Reads a process; `None` when there is none of this id.
    pub(crate) fn read(pid: i32) -> Option<Self> {
        parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Whether this very process, and not another of the same id, still exists.
    pub(crate) fn is_same(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.start == self.start)
    }

    /// Memory that is mapped and resident, in bytes. Pages shared with others count in full.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.resident_pages.saturating_mul(page_size())
    }

    /// The same now: nothing once it has ended.
    pub(crate) fn resident_now(&self) -> u64 {
        let now = Self::read(self.pid).filter(|now| now.start == self.start);
        now.map_or(0, |now| now.resident_bytes())
    }

    /// Its share of the memory that it uses, in bytes: pages shared with others are divided by
    /// their number. Slow for large processes. `None` when the kernel does not tell.
    pub(crate) fn proportional_bytes(&self) -> Option<u64> {
        parse_pss(&fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).ok()?)
    }

    /// Its children.
    pub(crate) fn children(&self) -> Vec<i32> {
        if self.threads <= 1 {
            return children_of_thread(self.pid, self.pid).unwrap_or_default();
        }
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.pid)) else {
            return Vec::new();
        };
        let ids = threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        ids.flat_map(|thread| children_of_thread(self.pid, thread).unwrap_or_default()).collect()
    }
}

/// The environment that a process was started with; empty when it cannot be read.
pub(crate) fn environ(pid: i32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
}

/// The process itself, then all its descendants, parents before children.
pub(crate) fn tree(root: i32) -> Vec<Process> {
    let mut found: Vec<Process> = Process::read(root).into_iter().collect();
    let mut next = 0;
    while let Some(process) = found.get(next).copied() {
        found.extend(process.children().into_iter().filter_map(Process::read));
        next += 1;
    }
    found
}

/// All processes that there are.
pub(crate) fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter_map(Process::read).collect()
}

/// The children of one thread.
///
/// # Errors
/// When the thread is gone or the kernel has no such list.
pub(crate) fn children_of_thread(pid: i32, thread: i32) -> io::Result<Vec<i32>> {
    let list = fs::read(format!("/proc/{pid}/task/{thread}/children"))?;
    Ok(parse_ids(&list))
}

/// The process ids of a list separated by blanks.
pub(crate) fn parse_ids(list: &[u8]) -> Vec<i32> {
    let words = list.split(u8::is_ascii_whitespace);
    words.filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok()).collect()
}

/// Bytes in a page. The page size is the same for all processes of a host.
fn page_size() -> u64 {
    use std::sync::OnceLock;
    static SIZE: OnceLock<u64> = OnceLock::new();
    *SIZE.get_or_init(|| {
        let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
        size.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
    })
}

/// The fields of `proc_pid_stat(5)`; the name in parentheses may hold anything, blanks and
/// parentheses included, so the fields are counted from the last parenthesis on.
fn parse_stat(stat: &[u8]) -> Option<Process> {
    let stat = String::from_utf8_lossy(stat);
    let (head, tail) = stat.rsplit_once(')')?;
    let pid = head.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    // The state is field 3 of the manual page.
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Process {
        pid,
        is_zombie: matches!(field(3)?, "Z" | "X"),
        parent: field(4)?.parse().ok()?,
        group: field(5)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        threads: field(20)?.parse().ok()?,
        start: field(22)?.parse().ok()?,
        resident_pages: field(24)?.parse().ok()?,
    })
}

fn parse_pss(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_is_skipped() {
        let line =
            b"42 (a) b (c)) S 7 42 40 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 99 1000 25 18446";
        let process = parse_stat(line).expect("is readable");
        assert_eq!((process.pid, process.parent, process.group, process.session), (42, 7, 42, 40));
        assert_eq!((process.threads, process.start, process.resident_pages), (3, 99, 25));
        assert!(!process.is_zombie);
        assert_eq!(parse_stat(b"42 (cut"), None);
        assert_eq!(parse_stat(b"42 (cut) S 1"), None);
    }

    #[test]
    fn the_proportional_size_is_read() {
        let rollup = "00400000-7ff [rollup]\nRss:      900 kB\nPss:      12 kB\nPss_Anon:  3 kB\n";
        assert_eq!(parse_pss(rollup), Some(12 * 1024));
        assert_eq!(parse_pss("Rss: 900 kB\n"), None);
    }

    #[test]
    fn this_process_is_found() {
        let own = i32::try_from(std::process::id()).expect("a process id fits");
        let process = Process::read(own).expect("this process exists");
        assert!(process.is_same() && !process.is_zombie && process.resident_bytes() > 0);
        assert!(process.resident_now() > 0);
        let ended = Process { start: process.start + 1, ..process };
        assert!(!ended.is_same() && ended.resident_now() == 0, "its id is another's");
        assert!(all().iter().any(|found| found.pid == own));
        assert_eq!(tree(own).first().map(|found| found.pid), Some(own));
    }

    #[test]
    fn ids_are_parsed() {
        assert_eq!(parse_ids(b"12 7 \n"), [12, 7]);
        assert_eq!(parse_ids(b""), [0_i32; 0]);
    }
}
