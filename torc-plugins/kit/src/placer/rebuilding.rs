//! Two placers that know the same do the same: told alike, or the one rebuilt from a snapshot.
//!
//! Owns: these comparisons. Does not know: what a right decision is. A promise of a start is a decision, not a delta: a
//! snapshot does not carry it, so a placer is compared with a rebuilt one where it has promised nothing.

use torc_core::traits::{Delta, Placer};

use super::PlacerSite;
use super::walk::{begin, happen};
use super::world::World;
use crate::finding::{Finding, Verdict, same};
use crate::random::Random;

/// Things that happen before and after a snapshot.
const LENGTH: u32 = 25;

/// Two that are told the same, side by side.
struct Pair {
    one: Box<dyn Placer>,
    other: Box<dyn Placer>,
    what: &'static str,
}

impl Pair {
    fn apply(&mut self, deltas: &[Delta]) {
        self.one.apply(deltas);
        self.other.apply(deltas);
    }

    /// Both decide and explain; whether a decision broke no rule, so that it can go on.
    fn decide(&mut self, world: &mut World, limit: usize) -> Result<bool, Finding> {
        let plan = self.one.plan(world.now, limit);
        same(self.what, &plan, &self.other.plan(world.now, limit))?;
        if world.take(&plan, limit).is_err() {
            return Ok(false);
        }
        for job in world.waiting.keys() {
            let causes = [&self.one, &self.other].map(|placer| placer.explain(*job, world.now));
            let [told, rebuilt] = &causes;
            same(
                &format!("the cause of job {job}'s waiting, beside {}", self.what),
                told,
                rebuilt,
            )?;
        }
        Ok(true)
    }

    fn walk(&mut self, world: &mut World, random: &mut Random) -> Verdict {
        for _ in 0..LENGTH {
            self.apply(&happen(world, random));
            let limit = if random.once_in(4) { random.below(3) as usize } else { usize::MAX };
            if !self.decide(world, limit)? {
                break;
            }
        }
        Ok(())
    }
}

pub(super) fn twins_agree(site: &PlacerSite<'_>) -> Verdict {
    site.all_cases(|case| {
        let mut random = Random::new(site.seed, case);
        let (one, other) = (site.placer()?, site.placer()?);
        let mut pair =
            Pair { one, other, what: "the plan of a second placer that was told the same" };
        let mut world = World::new();
        pair.apply(&begin(&mut world, &mut random));
        pair.walk(&mut world, &mut random)
    })
}

pub(super) fn rebuilt_as_told(site: &PlacerSite<'_>) -> Verdict {
    site.all_cases(|case| {
        undecided(site, &mut Random::new(site.seed, case))?;
        decided(site, &mut Random::new(site.seed, case))
    })
}

/// A placer that knows of something else already, so that it has to forget.
fn rebuilt(
    site: &PlacerSite<'_>,
    world: &World,
    random: &mut Random,
) -> Result<Box<dyn Placer>, Finding> {
    let mut placer = site.placer()?;
    let mut elsewhere = World::new();
    placer.apply(&begin(&mut elsewhere, random));
    for _ in 0..random.below(5) {
        placer.apply(&happen(&mut elsewhere, random));
        placer.plan(elsewhere.now, usize::MAX);
    }
    placer.rebuild(&world.snapshot());
    Ok(placer)
}

/// From a snapshot at a moment at which nothing has been decided.
fn undecided(site: &PlacerSite<'_>, random: &mut Random) -> Verdict {
    let mut world = World::new();
    let mut told = site.placer()?;
    told.apply(&begin(&mut world, random));
    for _ in 0..random.below(LENGTH) {
        told.apply(&happen(&mut world, random));
    }
    let other = rebuilt(site, &world, random)?;
    let what = "the plan of a placer that was rebuilt before any decision";
    let mut pair = Pair { one: told, other, what };
    if pair.decide(&mut world, usize::MAX)? { pair.walk(&mut world, random) } else { Ok(()) }
}

/// From one at which jobs run and nothing is promised.
fn decided(site: &PlacerSite<'_>, random: &mut Random) -> Verdict {
    let mut world = World::new();
    let mut told = site.placer()?;
    told.apply(&begin(&mut world, random));
    for _ in 0..LENGTH {
        told.apply(&happen(&mut world, random));
        let plan = told.plan(world.now, usize::MAX);
        if world.take(&plan, usize::MAX).is_err() {
            return Ok(());
        }
        if plan.planned.is_empty() && world.running.len() > 1 && random.once_in(3) {
            break;
        }
    }
    if !world.planned.is_empty() {
        return Ok(());
    }
    let other = rebuilt(site, &world, random)?;
    let mut pair =
        Pair { one: told, other, what: "the plan of a placer that was rebuilt while jobs run" };
    pair.walk(&mut world, random)
}

/// What is compared must be there to compare.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::broken;
    use torc_core::placer::{Policy, WholeNodePlacer};
    use torc_core::workflow::SortMethod;

    #[test]
    fn many_cases_come_to_be_compared_while_jobs_run() {
        let compared = (0..100).filter(|case| {
            let mut random = Random::new(1, *case);
            let mut placer = WholeNodePlacer::new(SortMethod::None, Policy::Pack);
            let mut world = World::new();
            placer.apply(&begin(&mut world, &mut random));
            (0..LENGTH).any(|_| {
                placer.apply(&happen(&mut world, &mut random));
                let plan = placer.plan(world.now, usize::MAX);
                assert!(world.take(&plan, usize::MAX).is_ok());
                plan.planned.is_empty() && world.running.len() > 1
            })
        });
        assert!(compared.count() > 50);
    }

    #[test]
    fn a_difference_is_said() {
        let finding = same("the plan", &1, &2).expect_err("they differ");
        assert_eq!(finding, broken("the plan to be 1", "2"));
    }
}
