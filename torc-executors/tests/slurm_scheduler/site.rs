//! What both kinds of test share: requests, and a folder for what they leave.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use torc_core::traits::{AllocationHandle, AllocationRequest};

/// Longer than anything takes on a busy machine; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(240);

/// Runs a test to its end, or fails it after a while.
pub(crate) fn wait<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("in time") })
}

/// One node for ten minutes, for a shell command, in this folder.
pub(crate) fn request(folder: &Path, command: &str) -> AllocationRequest {
    let folder = folder.to_str().expect("UTF-8");
    AllocationRequest {
        name: "torc test".to_owned(),
        nodes: 1,
        walltime: Some(Duration::from_secs(600)),
        settings: json!({"account": "science"}),
        command: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
        working_dir: folder.to_owned(),
        output: format!("{folder}/output"),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        umask: None,
        after: None,
    }
}

/// The same with other settings.
pub(crate) fn with(mut request: AllocationRequest, settings: Value) -> AllocationRequest {
    request.settings = settings;
    request
}

pub(crate) fn handle(id: &str) -> AllocationHandle {
    AllocationHandle(id.to_owned())
}
