//! Which Slurm this is, and what differs between releases.
//!
//! Pure: reads the words that any client program prints for `--version`. Whoever depends on a release's
//! behaviour asks [`Dialect`]; nobody else compares version numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A release of Slurm: the year, the month, and the count of its fixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// The year, two digits.
    pub major: u16,
    /// The month.
    pub minor: u16,
    /// The count of fixes; 0 when it is not said.
    pub micro: u16,
}

/// The oldest release that torc works with: the first whose steps may overlap fully.
pub const OLDEST: Version = Version { major: 22, minor: 5, micro: 0 };

impl fmt::Display for Version {
    /// As Slurm writes it: the month has two digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}.{}", self.major, self.minor, self.micro)
    }
}

/// This Slurm cannot be worked with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// The words name no release.
    #[error(
        "`--version` of a Slurm program answered `{0}`, which names no release of Slurm; check that the program is Slurm's"
    )]
    NotSlurm(String),
    /// The release is too old.
    #[error(
        "this is Slurm {0}; torc needs Slurm {OLDEST} or newer: use a cluster with a newer one"
    )]
    TooOld(Version),
}

impl Version {
    /// Reads what a client program prints for `--version`: `slurm 22.05.8`, `slurm-wlm 22.05.8`,
    /// `slurm 23.11.4-2`, `slurm 24.05-dev`. Lines that a site's wrapper adds are passed over.
    ///
    /// # Errors
    /// When no line names a release.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let found = text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let is_slurm = words.next()?.to_ascii_lowercase().starts_with("slurm");
            is_slurm.then(|| words.next().and_then(release)).flatten()
        });
        found.ok_or_else(|| VersionError::NotSlurm(text.trim().chars().take(80).collect()))
    }
}

/// `22.05.8` and whatever a vendor puts after it.
fn release(word: &str) -> Option<Version> {
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let mut numbers = word[..end].split('.').filter(|part| !part.is_empty()).map(str::parse);
    let major = numbers.next()?.ok()?;
    let minor = numbers.next()?.ok()?;
    let micro = numbers.next().transpose().ok()?.unwrap_or(0);
    Some(Version { major, minor, micro })
}

/// What a release does, where torc has to know. The sources are Slurm's release notes and srun(1).
///
/// Most differences need no knowledge: SLURM_CPUS_PER_TASK, SLURM_TRES_PER_TASK and their kin never reach
/// srun, ranks are always laid out in blocks, and an exit code of 0 from srun proves nothing in any release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    version: Version,
}

impl Dialect {
    /// The dialect of a release.
    ///
    /// # Errors
    /// When it is older than [`OLDEST`].
    pub fn of(version: Version) -> Result<Self, VersionError> {
        if version < OLDEST { Err(VersionError::TooOld(version)) } else { Ok(Self { version }) }
    }

    /// The release itself, for messages.
    pub fn version(self) -> Version {
        self.version
    }

    fn since(self, major: u16, minor: u16) -> bool {
        (self.version.major, self.version.minor) >= (major, minor)
    }

    /// srun takes SLURM_CPUS_PER_TASK for its own option (not from 22.05 on, again since 23.11).
    pub fn srun_reads_cpus_per_task(self) -> bool {
        self.since(23, 11)
    }

    /// A step can end with NODE_FAIL, is laid out cyclically, and can be told what to do when it is out
    /// of memory (`--oom-kill-step`).
    pub fn steps_have_node_failures(self) -> bool {
        self.since(24, 11)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &str) {
        let found = Version::parse(text).and_then(Dialect::of);
        let found = found.map_or_else(|error| error.to_string(), |d| d.version().to_string());
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn releases_are_read() {
        check("slurm 22.05.8\n", "22.05.8");
        check("slurm-wlm 22.05.8", "22.05.8");
        check("slurm 23.11.4-2", "23.11.4");
        check("slurm 24.05-dev", "24.05.0");
        check("slurm 24.05.0-0rc1", "24.05.0");
        check("slurm 25.11.2.s1", "25.11.2");
        check("Slurm 26.05.1", "26.05.1");
        check("module: slurm is loaded\nslurm 22.05.9\n", "22.05.9");
    }

    #[test]
    fn old_and_foreign_ones_are_refused() {
        let old = "torc needs Slurm 22.05.0 or newer: use a cluster with a newer one";
        check("slurm 21.08.8-2", &format!("this is Slurm 21.08.8; {old}"));
        check("slurm 2.6.5", &format!("this is Slurm 2.06.5; {old}"));
        let foreign = |words: &str| {
            format!(
                "`--version` of a Slurm program answered `{words}`, which names no release of Slurm; check that the program is Slurm's"
            )
        };
        check("", &foreign(""));
        check("slurm", &foreign("slurm"));
        check("slurm x.y", &foreign("slurm x.y"));
        check("slurm 22", &foreign("slurm 22"));
        check("pbs 22.05.8", &foreign("pbs 22.05.8"));
        check("slurm 99999999.05", &foreign("slurm 99999999.05"));
    }

    #[test]
    fn releases_differ() {
        let dialect = |text| Dialect::of(Version::parse(text).unwrap()).unwrap();
        let facts = |text| {
            let dialect = dialect(text);
            [dialect.srun_reads_cpus_per_task(), dialect.steps_have_node_failures()]
        };
        assert_eq!(facts("slurm 22.05.8"), [false; 2]);
        assert_eq!(facts("slurm 23.02.7"), [false; 2]);
        assert_eq!(facts("slurm 23.11.0"), [true, false]);
        assert_eq!(facts("slurm 24.05.1"), [true, false]);
        assert_eq!(facts("slurm 24.11.0"), [true; 2]);
        assert_eq!(facts("slurm 26.05.0"), [true; 2]);
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(text in "\\PC*", release in "(slurm )?[0-9.\\-a-z]{0,20}") {
            let _ = Version::parse(&text);
            let _ = Version::parse(&release);
        }
    }
}
