//! The last of a worker, whatever it ends for: what runs comes to its end, and each end is written down
//! and told.
//!
//! Nobody else would: the scheduler kills this process some time after it has asked it to end, so each
//! end is durable as soon as it is known. Invariant: an end that the parting or its cause brought about
//! is not taken for the job's own.

use std::time::Duration;

use futures_util::future::BoxFuture;
use torc_core::time::Timestamp;
use torc_core::traits::{NodeState, Outcome, StepEvent};
use torc_core::wire::link::{ToServer, ToWorker};

use super::happenings::Happening;
use super::reach::{Link, say};
use super::{Books, Worker, WorkerEnd, WorkerError};
use crate::clock::now;

/// Lets what runs in an executor come to its end; all has been reported then.
pub type WindUp = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// How long the last words may take to be heard.
const FAREWELL: Duration = Duration::from_secs(10);

impl Worker {
    /// Lets what runs come to its end, and says so while a server listens.
    pub(super) async fn part(
        mut self,
        mut link: Option<Link>,
        wind_up: WindUp,
        why: &Result<WorkerEnd, WorkerError>,
    ) {
        let reason = match why {
            Ok(WorkerEnd::Left(_)) => "as told",
            Ok(WorkerEnd::Stopped) => "the worker was asked to end",
            Err(_) => "the worker cannot go on",
        };
        if !matches!(why, Ok(WorkerEnd::Left(_))) {
            self.say_that_nothing_more_can_start(link.as_ref(), reason);
        }
        let since = now();
        let mut ending = wind_up();
        loop {
            tokio::select! {
                () = &mut ending => break,
                happening = self.happenings.next() => {
                    self.tell_last(happening, since, link.as_ref());
                }
                still_there = hear(&mut link, &mut self.books) => {
                    if !still_there {
                        link = None;
                    }
                }
            }
        }
        let left: Vec<StepEvent> = self.happenings.last_reports().collect();
        for report in left {
            self.tell_last(Happening::Reported(report), since, link.as_ref());
        }
        if let Some(mut link) = link {
            link.sender.close(reason);
            let heard = async { while link.receiver.next().await.is_ok() {} };
            // The journal has all of it.
            let _ = tokio::time::timeout(FAREWELL, heard).await;
        }
    }

    /// Otherwise each end would make room for a launch that comes to nothing.
    fn say_that_nothing_more_can_start(&self, link: Option<&Link>, reason: &str) {
        let Some(link) = link else { return };
        for node in &self.me.nodes {
            if self.books.is_up(&node.name) {
                let draining = StepEvent::NodeChanged {
                    allocation: self.me.allocation,
                    node: node.name.clone(),
                    at: now(),
                    state: NodeState::Draining,
                    reason: reason.to_owned(),
                };
                say(&link.sender, &ToServer::Report(draining));
            }
        }
    }

    fn tell_last(&mut self, happening: Happening, since: Timestamp, link: Option<&Link>) {
        if let Happening::Reported(report) = &happening
            && !is_its_own(report, since)
        {
            // What became of the allocation says why, and the scheduler tells that.
            return;
        }
        if let (Some(message), Some(link)) = (self.note(happening), link) {
            say(&link.sender, &message);
        }
    }
}

/// Whether this is no end of a step, or one that the step came to by itself: since it was asked to end,
/// only success shows that.
fn is_its_own(report: &StepEvent, since: Timestamp) -> bool {
    let StepEvent::Ended { at, outcome, .. } = report else { return true };
    let is_success =
        matches!(outcome, Outcome::Exited { code: 0 } | Outcome::TimedOut { code: Some(0) });
    is_success || *at < since
}

/// Hears what the server says, of which only acknowledgements matter any more. Whether it is still there;
/// never returns without one.
async fn hear(link: &mut Option<Link>, books: &mut Books) -> bool {
    let Some(link) = link else { return std::future::pending().await };
    match link.receiver.next().await {
        Ok(ToWorker::Acknowledged(steps)) => {
            if let Err(error) = books.acknowledge(&steps) {
                tracing::warn!(%error, "the journal could not be shortened");
            }
            true
        }
        Ok(_) => true,
        Err(_) => false,
    }
}
