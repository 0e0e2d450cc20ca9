//! The typed traits of plugins, and what makes an [`Interface`] of each: methods by their names, JSON by its types.
//!
//! Invariant: each method of an interface is one arm here; any other is [`Failure::Unsupported`].

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::messages::{
    AllocationRequest, AllocationState, Cancel, Delta, Explain, Find, InventoryAnswer, LaunchPlan,
    LaunchPlanRequest, LaunchRequest, Node, Observe, Plan, PlanRequest, Rebuild, Reconcile, Shapes,
    Signal, SignalRequest, Snapshot, Step, StepId, StepState, Submit, Waiting,
};
use crate::{Call, Failure, Host, Interface, Reply, Settings};

/// Writes a launch down: what to execute for a step. It is asked for each launch, and keeps nothing.
pub trait Launcher: Send + Sized {
    /// Makes an instance.
    ///
    /// # Errors
    /// When it cannot work with these settings, or not here.
    fn open(settings: Settings, host: Host) -> Result<Self, Failure>;

    /// How this step is started. The same step gives the same plan. `folder`: where the plan's files will lie, absolute.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when this launcher cannot start such a step: its attempt fails with these words.
    fn plan(&mut self, step: &Step, folder: &str) -> Result<LaunchPlan, Failure>;
}

/// Launches steps. What comes of them is told by [`Host::emit`] with an [`Event`](crate::messages::Event), from any
/// thread.
pub trait Executor: Send + Sized {
    /// Makes an instance.
    ///
    /// # Errors
    /// When it cannot work with these settings, or not here.
    fn open(settings: Settings, host: Host) -> Result<Self, Failure>;

    /// The nodes that steps can be launched on.
    ///
    /// # Errors
    /// When they are not known.
    fn inventory(&mut self) -> Result<Vec<Node>, Failure>;

    /// Takes a step over, and returns. One that cannot be launched ends with
    /// [`Outcome::LaunchFailed`](crate::messages::Outcome::LaunchFailed).
    ///
    /// # Errors
    /// When nothing can be launched any more. No event follows then.
    fn launch(&mut self, step: Step) -> Result<(), Failure>;

    /// Signals all processes of a step. One that is unknown, or has ended, is left alone.
    ///
    /// # Errors
    /// When nothing can be done any more.
    fn signal(&mut self, step: StepId, signal: Signal) -> Result<(), Failure>;

    /// What became of steps, in the same order.
    ///
    /// # Errors
    /// When it cannot be known now.
    fn reconcile(&mut self, steps: &[StepId]) -> Result<Vec<StepState>, Failure>;

    /// Ends what still runs, which may go on for so long.
    fn close(self, grace: Duration);
}

/// A source of allocations. A question that fails says nothing about them.
pub trait Scheduler: Send + Sized {
    /// Makes an instance.
    ///
    /// # Errors
    /// When it cannot work with these settings, or not here.
    fn open(settings: Settings, host: Host) -> Result<Self, Failure>;

    /// The kinds of node that could serve a request.
    ///
    /// # Errors
    /// When they are not known.
    fn shapes(&mut self, request: &AllocationRequest) -> Result<Shapes, Failure>;

    /// Asks for an allocation; `key` has to travel with it. Its name.
    ///
    /// # Errors
    /// [`Failure::Invalid`]: it is refused for good. [`Failure::Transient`]: perhaps it was made, which
    /// [`Self::find`] will tell.
    fn submit(&mut self, request: &AllocationRequest, key: &str) -> Result<String, Failure>;

    /// The allocation that was asked for with this key.
    ///
    /// # Errors
    /// When that is not known.
    fn find(&mut self, key: &str) -> Result<Option<String>, Failure>;

    /// Where allocations stand, in the same order.
    ///
    /// # Errors
    /// When nothing is known of them now.
    fn observe(&mut self, allocations: &[String]) -> Result<Vec<AllocationState>, Failure>;

    /// Ends an allocation. One that has ended, or is unknown, is no failure.
    ///
    /// # Errors
    /// When it could not be asked for.
    fn cancel(&mut self, allocation: &str) -> Result<(), Failure>;
}

/// Decides which jobs start on which nodes, now. The same calls have to give the same answers; torc checks every start
/// against books of its own.
pub trait Placer: Send + Sized {
    /// Makes an instance.
    ///
    /// # Errors
    /// When it cannot work with these settings, or not here.
    fn open(settings: Settings, host: Host) -> Result<Self, Failure>;

    /// Takes note of what happened, in order.
    fn apply(&mut self, deltas: Vec<Delta>);

    /// Chooses at most `limit` jobs to start now, and books them as started. A start that torc does not make
    /// is told of by [`Delta::StepEnded`], and by [`Delta::JobReady`] if the job still waits; of a job that
    /// ran already nothing is told. After three plans in a row with such starts torc's own placer takes over.
    ///
    /// # Errors
    /// When it cannot go on: torc's own placer takes over.
    fn plan(&mut self, now: u64, limit: u64) -> Result<Plan, Failure>;

    /// Why a job waits; `None`: it does not.
    ///
    /// # Errors
    /// When it cannot be said.
    fn explain(&mut self, job: u32, now: u64) -> Result<Option<Waiting>, Failure>;

    /// Forgets everything, and takes this over.
    ///
    /// # Errors
    /// When it cannot go on.
    fn rebuild(&mut self, snapshot: Snapshot) -> Result<(), Failure>;
}

fn read<T: DeserializeOwned>(request: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(request)
        .map_err(|error| Failure::Invalid(format!("the request cannot be read: {error}")))
}

fn reply<T: Serialize>(answer: &T) -> Result<Reply, Failure> {
    serde_json::to_vec(answer)
        .map(Reply::Now)
        .map_err(|error| Failure::Fatal(format!("the answer cannot be written: {error}")))
}

/// A [`Launcher`] as bytes.
#[derive(Debug)]
pub struct LauncherOf<L>(L);

impl<L: Launcher> Interface for LauncherOf<L> {
    fn open(settings: Settings, host: Host) -> Result<Self, Failure> {
        L::open(settings, host).map(Self)
    }

    fn call(&mut self, method: &str, request: &[u8], _: Call) -> Result<Reply, Failure> {
        match method {
            "plan" => {
                let LaunchPlanRequest { step, folder } = read(request)?;
                reply(&self.0.plan(&step, &folder)?)
            }
            _ => Err(Failure::Unsupported),
        }
    }

    fn close(self, _: Duration) {}
}

/// An [`Executor`] as bytes.
#[derive(Debug)]
pub struct ExecutorOf<E>(E);

impl<E: Executor> Interface for ExecutorOf<E> {
    fn open(settings: Settings, host: Host) -> Result<Self, Failure> {
        E::open(settings, host).map(Self)
    }

    fn call(&mut self, method: &str, request: &[u8], _: Call) -> Result<Reply, Failure> {
        match method {
            "inventory" => reply(&InventoryAnswer { nodes: self.0.inventory()? }),
            "launch" => reply(&self.0.launch(read::<LaunchRequest>(request)?.step)?),
            "signal" => {
                let SignalRequest { step, signal } = read(request)?;
                reply(&self.0.signal(step, signal)?)
            }
            "reconcile" => reply(&self.0.reconcile(&read::<Reconcile>(request)?.steps)?),
            _ => Err(Failure::Unsupported),
        }
    }

    fn close(self, grace: Duration) {
        self.0.close(grace);
    }
}

/// A [`Scheduler`] as bytes.
#[derive(Debug)]
pub struct SchedulerOf<S>(S);

impl<S: Scheduler> Interface for SchedulerOf<S> {
    fn open(settings: Settings, host: Host) -> Result<Self, Failure> {
        S::open(settings, host).map(Self)
    }

    fn call(&mut self, method: &str, request: &[u8], _: Call) -> Result<Reply, Failure> {
        match method {
            "shapes" => reply(&self.0.shapes(&read(request)?)?),
            "submit" => {
                let Submit { request, key } = read(request)?;
                reply(&self.0.submit(&request, &key)?)
            }
            "find" => reply(&self.0.find(&read::<Find>(request)?.key)?),
            "observe" => reply(&self.0.observe(&read::<Observe>(request)?.allocations)?),
            "cancel" => reply(&self.0.cancel(&read::<Cancel>(request)?.allocation)?),
            _ => Err(Failure::Unsupported),
        }
    }

    fn close(self, _: Duration) {}
}

/// A [`Placer`] as bytes.
#[derive(Debug)]
pub struct PlacerOf<P>(P);

impl<P: Placer> Interface for PlacerOf<P> {
    fn open(settings: Settings, host: Host) -> Result<Self, Failure> {
        P::open(settings, host).map(Self)
    }

    fn call(&mut self, method: &str, request: &[u8], _: Call) -> Result<Reply, Failure> {
        match method {
            "plan" => {
                let PlanRequest { deltas, now, limit } = read(request)?;
                self.0.apply(deltas);
                reply(&self.0.plan(now, limit)?)
            }
            "explain" => {
                let Explain { deltas, job, now } = read(request)?;
                self.0.apply(deltas);
                reply(&self.0.explain(job, now)?)
            }
            "rebuild" => reply(&self.0.rebuild(read::<Rebuild>(request)?.snapshot)?),
            _ => Err(Failure::Unsupported),
        }
    }

    fn close(self, _: Duration) {}
}
