//! Stages whose jobs want many nodes at one time and few at another, in two.
//!
//! Owns: where a stage is cut, along its dependencies. Does not know: whether that is worth it.
//! Invariant: no job of the first part depends on one of the second.

use super::simulate::Work;
use super::work::shares;
use crate::traits::NodeShape;

/// Nodes wanted on one side of the cut over those on the other, at least.
const LEAST_JUMP: f64 = 2.0;

/// What one level of a stage wants: jobs that the same number of others precede at most.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Seconds of whole nodes.
    packed: f64,
    /// The longest runtime, in seconds.
    longest: f64,
}

impl Level {
    /// Nodes that it could keep busy at once.
    fn nodes(self) -> f64 {
        (self.packed / self.longest.max(1.0)).max(1.0)
    }
}

/// Where the number of nodes that are wanted jumps most: by job, whether it is in the second part.
/// `None` where it does not jump.
pub(super) fn cut(work: &Work, node: &NodeShape) -> Option<Vec<bool>> {
    let level_of = levels(work);
    let mut levels = vec![Level::default(); 1 + level_of.iter().copied().max()?];
    for (level, class) in level_of.iter().zip(&work.class_of) {
        let request = &work.classes[*class as usize];
        let runtime = request.runtime.unwrap_or_default().as_secs_f64();
        let level = &mut levels[*level];
        level.packed += shares(request, node).1 * runtime;
        level.longest = level.longest.max(runtime);
    }
    let jump = |pair: &[Level]| {
        let ratio = pair[1].nodes() / pair[0].nodes();
        ratio.max(1.0 / ratio)
    };
    let jumps = levels.windows(2).map(jump).zip(1..);
    let (jump, first) = jumps.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
    (jump >= LEAST_JUMP).then(|| level_of.iter().map(|level| *level >= first).collect())
}

/// By job: how many jobs precede it in the longest chain to it.
fn levels(work: &Work) -> Vec<usize> {
    let mut waits = work.waits.clone();
    let mut levels = vec![0; waits.len()];
    let mut ready: Vec<usize> = (0..waits.len()).filter(|job| waits[*job] == 0).collect();
    while let Some(job) = ready.pop() {
        for dependent in &work.dependents[job] {
            let dependent = *dependent as usize;
            levels[dependent] = levels[dependent].max(levels[job] + 1);
            waits[dependent] -= 1;
            if waits[dependent] == 0 {
                ready.push(dependent);
            }
        }
    }
    levels
}
