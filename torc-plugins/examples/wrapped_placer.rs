//! A placer that decides as torc's own does, from the other side of the boundary.
//!
//! To begin a placer with: it shows what is told and asked, and how a rule of one's own is put before or
//! after what torc would do. Its settings are `policy` (`pack` or `spread`) and `sort` (a `jobs_sort_method`
//! of the spec); both may be left out. What it is told is torc's own type as JSON, so nothing is translated
//! by hand.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use torc_core::ids::JobId;
use torc_core::placer::{Policy, WholeNodePlacer};
use torc_core::time::Timestamp;
use torc_core::traits::{self, Placer as _};
use torc_core::workflow::SortMethod;
use torc_plugin::{Call, Failure, Host, Interface, Reply, Settings, torc_plugin};

/// Torc's own placer.
struct Wrapped(WholeNodePlacer);

/// What `plan` is asked with.
#[derive(serde::Deserialize)]
struct PlanRequest {
    deltas: Vec<traits::Delta>,
    now: Timestamp,
    limit: u64,
}

/// What `explain` is asked with.
#[derive(serde::Deserialize)]
struct ExplainRequest {
    deltas: Vec<traits::Delta>,
    job: JobId,
    now: Timestamp,
}

/// What `rebuild` is asked with.
#[derive(serde::Deserialize)]
struct RebuildRequest {
    snapshot: traits::Snapshot,
}

fn read<T: DeserializeOwned>(request: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(request)
        .map_err(|error| Failure::Invalid(format!("the request cannot be read: {error}")))
}

fn reply(answer: &impl Serialize) -> Result<Reply, Failure> {
    serde_json::to_vec(answer)
        .map(Reply::Now)
        .map_err(|error| Failure::Fatal(format!("the answer cannot be written: {error}")))
}

/// A setting that may be left out.
fn setting<T: DeserializeOwned + Default>(settings: &Settings, name: &str) -> Result<T, Failure> {
    let Some(value) = settings.get(name) else { return Ok(T::default()) };
    serde_json::from_value(value.clone())
        .map_err(|error| Failure::Invalid(format!("`{name}`: {error}")))
}

fn policy(settings: &Settings) -> Result<Policy, Failure> {
    let Some(value) = settings.get("policy") else { return Ok(Policy::default()) };
    let named = Policy::NAMES.into_iter().find(|(name, _)| value == name);
    let refuse = || Failure::Invalid(format!("`policy` is `pack` or `spread`, not {value}"));
    named.map(|(_, policy)| policy).ok_or_else(refuse)
}

impl Interface for Wrapped {
    fn open(settings: Settings, _: Host) -> Result<Self, Failure> {
        let sort: SortMethod = setting(&settings, "sort")?;
        Ok(Self(WholeNodePlacer::new(sort, policy(&settings)?)))
    }

    fn call(&mut self, method: &str, request: &[u8], _: Call) -> Result<Reply, Failure> {
        match method {
            "plan" => {
                let PlanRequest { deltas, now, limit } = read(request)?;
                self.0.apply(&deltas);
                reply(&self.0.plan(now, usize::try_from(limit).unwrap_or(usize::MAX)))
            }
            "explain" => {
                let ExplainRequest { deltas, job, now } = read(request)?;
                self.0.apply(&deltas);
                reply(&self.0.explain(job, now))
            }
            "rebuild" => {
                self.0.rebuild(&read::<RebuildRequest>(request)?.snapshot);
                reply(&Value::Null)
            }
            _ => Err(Failure::Unsupported),
        }
    }

    fn close(self, _: std::time::Duration) {}
}

torc_plugin! {
    name: "wrapped",
    version: "0.1.0",
    info: r#"{"description": "decides as torc's own placer does", "schema": {"type": "object", "properties": {
        "policy": {"enum": ["pack", "spread"]}, "sort": {"type": "string"}}}}"#,
    interfaces: { raw placer: Wrapped }
}
