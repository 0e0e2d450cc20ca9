//! The conformance kit's checks of schedulers, on a real Slurm.

use std::time::Duration;

use serde_json::json;
use torc_plugin_kit::{Candidate, Interface, SchedulerSite, checks_of};

use crate::cluster::Cluster;
use crate::site::{handle, wait, with};

#[test]
fn every_check_of_the_kit_holds() {
    let Some(cluster) = Cluster::acquire() else { return };
    let folder = cluster.folder.path();
    let name = folder.file_name().and_then(|name| name.to_str()).expect("a name");
    let site = SchedulerSite {
        scheduler: &cluster.scheduler,
        request: cluster.request("true"),
        refused: Some(with(cluster.request("true"), json!({"account": "nope"}))),
        // More than Slurm counts to on this cluster.
        unknown: Some(handle("2000000000")),
        folder: folder.to_owned(),
        key: format!("kit{name}"),
        patience: Duration::from_secs(120),
        look_every: Duration::from_millis(200),
    };
    let mut broken = Vec::new();
    for check in checks_of(Interface::Scheduler) {
        let verdict = wait(check.run(Candidate::Scheduler(&site)));
        if verdict != Some(Ok(())) {
            broken.push(format!("{}: {verdict:?}", check.name));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
