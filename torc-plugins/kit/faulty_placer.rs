//! A placer that does what no placer should: the tests see that no job is lost by it, and that torc says
//! whose fault it is.
//!
//! It decides as torc's own placer does, until its setting `after` has let so many plans pass; then it has
//! the fault that its setting `fault` names. Without one it works.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use torc_core::ids::JobId;
use torc_core::placer::{Policy, WholeNodePlacer};
use torc_core::traits::{Delta, Placer, Plan};
use torc_core::workflow::SortMethod;
use torc_plugin::{Call, Failure, Host, Interface, Reply, Settings, torc_plugin};

struct Faulty {
    placer: WholeNodePlacer,
    fault: String,
    /// Plans without the fault.
    good_plans: u64,
}

fn read<T: DeserializeOwned>(request: &Value, field: &str) -> Result<T, Failure> {
    serde_json::from_value(request[field].clone())
        .map_err(|error| Failure::Invalid(format!("{field}: {error}")))
}

fn reply(answer: &impl Serialize) -> Result<Reply, Failure> {
    serde_json::to_vec(answer).map(Reply::Now).map_err(|error| Failure::Fatal(error.to_string()))
}

impl Faulty {
    fn plan(&mut self, request: &Value) -> Result<Reply, Failure> {
        let limit: u64 = read(request, "limit")?;
        let is_good = self.good_plans > 0 || self.fault.is_empty();
        self.good_plans = self.good_plans.saturating_sub(1);
        let bound = if !is_good && self.fault == "more than may start" { u64::MAX } else { limit };
        let plan =
            self.placer.plan(read(request, "now")?, usize::try_from(bound).unwrap_or(usize::MAX));
        if is_good {
            return reply(&plan);
        }
        match &*self.fault {
            "panics" => panic!("a bug in a plan"),
            "hangs" => loop {
                std::thread::park();
            },
            "crashes" => std::process::abort(),
            "garbage" => Ok(Reply::Now(b"\xff\xfe{".to_vec())),
            "unsupported" => Err(Failure::Unsupported),
            "gives up" => Err(Failure::Fatal("the licence has ended".to_owned())),
            "idle" => reply(&Plan::default()),
            fault => reply(&spoiled(plan, fault)),
        }
    }
}

/// A plan that is a lie.
fn spoiled(mut plan: Plan, fault: &str) -> Plan {
    let starts = &mut plan.starts;
    match fault {
        "oversubscribes" => {
            let shares = starts.iter_mut().flat_map(|start| &mut start.placement.shares);
            shares.for_each(|share| share.cores = [0].into());
        }
        "unknown job" => starts.iter_mut().take(1).for_each(|start| start.job = JobId(999)),
        "a job twice" => starts.extend(starts.first().cloned()),
        // That was seen to already.
        "more than may start" => {}
        other => panic!("there is no fault `{other}`"),
    }
    plan
}

impl Interface for Faulty {
    fn open(settings: Settings, _: Host) -> Result<Self, Failure> {
        let text = |name: &str| settings.get(name).and_then(Value::as_str).unwrap_or_default();
        let fault = text("fault").to_owned();
        if fault == "does not open" {
            return Err(Failure::Invalid("no such partition".to_owned()));
        }
        let good_plans = settings.get("after").and_then(Value::as_u64).unwrap_or_default();
        let placer = WholeNodePlacer::new(SortMethod::default(), Policy::default());
        Ok(Self { placer, fault, good_plans })
    }

    fn call(&mut self, method: &str, request: &[u8], _: Call) -> Result<Reply, Failure> {
        let request: Value =
            serde_json::from_slice(request).map_err(|error| Failure::Invalid(error.to_string()))?;
        if method != "rebuild" {
            self.placer.apply(&read::<Vec<Delta>>(&request, "deltas")?);
        }
        match method {
            "plan" => self.plan(&request),
            "explain" if self.fault == "cannot explain" => Err(Failure::Unsupported),
            "explain" => {
                reply(&self.placer.explain(read(&request, "job")?, read(&request, "now")?))
            }
            "rebuild" if self.fault == "cannot rebuild" => panic!("a bug in a rebuild"),
            "rebuild" => {
                self.placer.rebuild(&read(&request, "snapshot")?);
                reply(&Value::Null)
            }
            _ => Err(Failure::Unsupported),
        }
    }

    fn close(self, _: Duration) {}
}

torc_plugin! {
    name: "faulty_placer",
    version: "0.1.0",
    info: r#"{"description": "does what no placer should"}"#,
    interfaces: { raw placer: Faulty }
}
