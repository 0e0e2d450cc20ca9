//! Files of jobs, as they lie on disk.
//!
//! Owns how a file is looked at. Does not know what for. Blocks: never called where anything else waits.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Instant, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use torc_core::fingerprint::{Files, Fingerprint};

/// Bytes read at once.
const BLOCK: usize = 1 << 16;

/// The files of the jobs of one workflow.
pub(crate) struct Disk {
    /// What relative paths begin at.
    folder: PathBuf,
}

impl Disk {
    pub(crate) fn at(folder: &str) -> Self {
        Self { folder: PathBuf::from(folder) }
    }

    /// The digest of a file, unless that is not read to its end before `until` says that it is time.
    pub(crate) fn digest_before(
        &self,
        path: &str,
        until: impl Fn() -> Option<Instant>,
    ) -> Option<Box<str>> {
        let mut file = File::open(self.folder.join(path)).ok()?;
        let mut digest = Sha256::new();
        let mut block = vec![0; BLOCK];
        loop {
            if until().is_some_and(|at| Instant::now() >= at) {
                return None;
            }
            match file.read(&mut block) {
                Ok(0) => break,
                Ok(read) => digest.update(&block[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        let text: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(text.into())
    }
}

impl Files for Disk {
    fn look(&mut self, path: &str) -> Option<Fingerprint> {
        let found = std::fs::metadata(self.folder.join(path)).ok()?;
        let modified = found.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified_ns = u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX);
        Some(Fingerprint { size: found.len(), modified_ns, digest: None })
    }

    fn digest(&mut self, path: &str) -> Option<Box<str>> {
        self.digest_before(path, || None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_content() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a"), "abc").expect("it is written");
        let mut disk = Disk::at(&folder.path().to_string_lossy());
        let seen = disk.look("a").expect("it is there");
        assert_eq!((seen.size, seen.digest), (3, None));
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(disk.digest("a").as_deref(), Some(expected));
        assert_eq!(disk.digest_before("a", || Some(Instant::now())), None, "there is no time");
        assert_eq!((disk.look("b"), disk.digest("b")), (None, None));
    }
}
