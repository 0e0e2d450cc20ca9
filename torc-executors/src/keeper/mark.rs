//! The mark that every process of a step carries in its environment, so that it is known whose it
//! is after it left its parent, its process group and its session.
//!
//! A torc that runs inside a job of another torc adds its mark to the one it inherited; each keeper
//! looks for its own part only. The keeper's process id makes parts of different keepers differ.

use crate::keeper::wire::StepKey;

/// The environment variable that holds the mark.
pub(crate) const VARIABLE: &str = "TORC_STEP_MARK";

/// The mark of a step, on top of the mark that the keeper itself carries.
pub(crate) fn compose(inherited: &str, keeper: i32, key: StepKey) -> String {
    format!("{inherited}/{keeper}:{key}")
}

/// The step of this keeper that a process with this environment (as in `/proc/PID/environ`) is of.
/// Of several parts with its number the last is meant: in containers an outer keeper can have the same.
pub(crate) fn find(environ: &[u8], keeper: i32) -> Option<StepKey> {
    let value = environ
        .split(|&byte| byte == 0)
        .find_map(|entry| entry.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"="))?;
    let parts = std::str::from_utf8(value).ok()?.split('/');
    parts
        .filter_map(|part| part.split_once(':'))
        .filter_map(|(owner, key)| (owner.parse() == Ok(keeper)).then(|| key.parse().ok())?)
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_keeper_finds_its_own_part() {
        let outer = compose("", 17, 3);
        let inner = compose(&outer, 99, 4);
        let environ = format!("A=1\0{VARIABLE}={inner}\0B=2\0");
        assert_eq!(find(environ.as_bytes(), 17), Some(3));
        assert_eq!(find(environ.as_bytes(), 99), Some(4));
        assert_eq!(find(environ.as_bytes(), 9), None);
        assert_eq!(find(b"A=1\0", 17), None);
        assert_eq!(find(b"", 17), None);
    }
}
