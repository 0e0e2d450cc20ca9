//! Doing what there is to do about the helpers of jobs.
//!
//! Decides nothing: what follows is said by [`Helpers`](super::helpers::Helpers) and the books.

use std::time::Duration;

use torc_core::ids::StepId;
use torc_core::traits::{StdioPaths, Step, StepEvent, StepLimits, StepSignal};
use torc_core::wire::crew::{HelperStart, ToNode};

use super::books::{Effect, Place};
use super::helpers::{Ended, Held, code_of};
use super::post::Link;
use super::service::{Service, moment, say};

/// What a helper that could not be launched, or is lost, ends with.
const LOST: i32 = 255;

/// The time that a helper has from the signal that asks it to end.
const LEAD: Duration = Duration::from_secs(5);

impl Service {
    /// Has a job's command started on another of its nodes.
    pub(super) fn help(&mut self, start: HelperStart, link: u64, asker: Link) {
        let found = self.books.helped(start.step, &start.node);
        let found = found.and_then(|(place, step)| {
            let worker = self.senders.get(&place).cloned();
            Ok((place, step, worker.ok_or_else(|| format!("{} has no worker", start.node))?))
        });
        let (place, step, worker) = match found {
            Ok(found) => found,
            Err(reason) => {
                say(&asker, &ToNode::Refused { reason, may_ask_again: false });
                return asker.close("refused");
            }
        };
        let id = self.helpers.begin(start.step, place, link);
        let file =
            |end: &str| self.outputs.join(format!("{id}.{end}")).to_string_lossy().into_owned();
        let (stdout, stderr) = (file("o"), file("e"));
        say(&asker, &ToNode::HelperStarted { stdout: stdout.clone(), stderr: stderr.clone() });
        self.askers.insert(link, asker);
        let stdio = StdioPaths {
            stdout: Some(stdout.into()),
            stderr: Some(stderr.into()),
            ..StdioPaths::default()
        };
        say(&worker, &ToNode::Launch(Box::new(helper(step, start, id, stdio))));
    }

    /// A node's worker reports something: of a helper, or of a job.
    pub(super) fn report(&mut self, place: Place, event: StepEvent) -> Vec<Effect> {
        match &event {
            StepEvent::Ended { step, outcome, .. } if self.helpers.knows(*step) => {
                self.end_helper(*step, code_of(outcome))
            }
            StepEvent::Started { step, .. } if self.helpers.knows(*step) => Vec::new(),
            StepEvent::Ended { step, .. }
                if self.awaits_helpers(*step, || Held::End(place, Box::new(event.clone()))) =>
            {
                Vec::new()
            }
            _ => self.books.report(place, event, moment()),
        }
    }

    /// Whether a job that has ended has helpers left. They are killed, and this waits for that.
    pub(super) fn awaits_helpers(&mut self, owner: StepId, held: impl FnOnce() -> Held) -> bool {
        let left = self.helpers.of(owner);
        if left.is_empty() {
            return false;
        }
        for (step, place) in left {
            self.kill(step, place);
        }
        self.helpers.hold(owner, held());
        true
    }

    /// Whoever asked for a helper is gone, and it goes, too.
    pub(super) fn end_asked_over(&mut self, link: u64) {
        self.askers.remove(&link);
        if let Some((step, place)) = self.helpers.asked_over(link) {
            self.kill(step, place);
        }
    }

    /// Helpers on a node end with its worker.
    pub(super) fn lose_helpers_at(&mut self, place: Place) {
        for step in self.helpers.at(place) {
            let effects = self.end_helper(step, LOST);
            self.perform(effects);
        }
    }

    fn kill(&self, step: StepId, place: Place) {
        if let Some(worker) = self.senders.get(&place) {
            say(worker, &ToNode::Signal(step, StepSignal::Kill));
        }
    }

    fn end_helper(&mut self, step: StepId, code: i32) -> Vec<Effect> {
        let Some(Ended { link, freed }) = self.helpers.end(step) else { return Vec::new() };
        if let Some(asker) = self.askers.remove(&link) {
            say(&asker, &ToNode::HelperEnded(code));
            asker.close("the command has ended");
        }
        match freed {
            Some((_, Held::End(place, event))) => self.books.report(place, *event, moment()),
            Some((owner, Held::Cleared)) => self.books.cleared(&[owner], moment()),
            None => Vec::new(),
        }
    }
}

/// What a node's worker launches: as the job's step, but for what is the helper's own.
fn helper(step: Step, start: HelperStart, id: StepId, stdio: StdioPaths) -> Step {
    let HelperStart { text, env, working_dir, .. } = start;
    let limits = StepLimits { runtime: None, termination_lead: LEAD, ..step.limits };
    Step {
        id,
        argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), text],
        env,
        working_dir: working_dir.into(),
        stdio,
        limits,
        expected_files: Vec::new(),
        ..step
    }
}
