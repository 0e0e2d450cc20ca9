//! The GPUs that this process may use: those it was given by environment, else those it finds.

use std::collections::HashSet;
use std::fs;

/// The variables by which a site or a user says which GPUs to use; the first that is set counts.
const VARIABLES: [&str; 2] = ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"];

/// The ids of the GPUs, as `CUDA_VISIBLE_DEVICES` wants them.
pub(super) fn visible() -> Vec<Box<str>> {
    let given = VARIABLES.iter().find_map(|name| std::env::var(name).ok());
    match given {
        Some(list) => parse_list(&list),
        None => devices(
            fs::read_dir("/dev")
                .into_iter()
                .flatten()
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok()),
        ),
    }
}

/// A list with commas. CUDA ignores everything from the first invalid entry on, and `-1` is the
/// customary one; `NoDevFiles` is what Slurm writes for none. A device that is named twice is one device.
fn parse_list(list: &str) -> Vec<Box<str>> {
    let ids = list.split(',').map(str::trim);
    let mut seen = HashSet::new();
    ids.take_while(|id| !id.is_empty() && *id != "-1" && *id != "NoDevFiles")
        .filter(|id| seen.insert(*id))
        .map(Box::from)
        .collect()
}

/// NVIDIA's device files are `nvidia0`, `nvidia1`, …; others like `nvidiactl` are no devices.
fn devices(names: impl Iterator<Item = String>) -> Vec<Box<str>> {
    let numbers = names.filter_map(|name| name.strip_prefix("nvidia")?.parse::<u32>().ok());
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    numbers.iter().map(|number| number.to_string().into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: &[Box<str>], expected: &[&str]) {
        let found: Vec<&str> = found.iter().map(|id| &**id).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_list_is_taken_as_it_is() {
        check(&parse_list("2, 0"), &["2", "0"]);
        check(&parse_list("GPU-8932f937,MIG-4"), &["GPU-8932f937", "MIG-4"]);
        check(&parse_list(""), &[]);
        check(&parse_list("-1"), &[]);
        check(&parse_list("0,-1,1"), &["0"]);
        check(&parse_list("NoDevFiles"), &[]);
    }

    #[test]
    fn device_files_are_counted() {
        let names = ["nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "null"];
        check(&devices(names.iter().map(ToString::to_string)), &["2", "10"]);
    }
}
