//! What a placer must do: the rules P1 to P8 of the design, seen from outside.
//!
//! Owns: the list of the checks of [`Placer`], and what they are given. Does not know: how a placer decides; which of
//! several jobs goes first is its own business where no rule says so. Invariant: every start is checked against an
//! account of the kit's own ([`world`]), and the same seed gives the same cases.
//!
//! Each rule has a check of its own. All of them look at the same walks, and a walk ends at its first breach, of
//! whichever rule: what comes after would be seen through a wrong account.

mod packing;
mod rebuilding;
mod rules;
mod streams;
mod walk;
mod world;

use torc_core::traits::Placer;

use crate::check::Check;
use crate::finding::{Finding, Verdict, broken};
use rules::Rule;
pub use walk::Walks;

/// A placer to look at.
pub struct PlacerSite<'a> {
    /// Makes one that knows nothing yet, or says why it cannot be made.
    pub make: &'a dyn Fn() -> Result<Box<dyn Placer>, String>,
    /// It is meant to keep nodes whole (P7), as torc's own does unless it is told to spread.
    pub keeps_nodes_whole: bool,
    /// Cases for each check.
    pub cases: u32,
    /// Whence they come.
    pub seed: u64,
    /// What is known of it; nothing to begin with.
    pub walks: Walks,
}

impl<'a> PlacerSite<'a> {
    /// A hundred cases of a placer that keeps nodes whole.
    pub fn new(make: &'a dyn Fn() -> Result<Box<dyn Placer>, String>) -> Self {
        Self { make, keeps_nodes_whole: true, cases: 100, seed: 1, walks: Walks::default() }
    }

    fn placer(&self) -> Result<Box<dyn Placer>, Finding> {
        (self.make)().map_err(|words| broken("a placer", words))
    }

    /// Looks at all cases, and says at which one something was found.
    fn all_cases(&self, mut look: impl FnMut(u32) -> Verdict) -> Verdict {
        (0..self.cases).try_for_each(|case| {
            look(case).map_err(|finding| match finding {
                Finding::Broken { expected, seen } => Finding::Broken {
                    expected,
                    seen: format!("{seen} (case {case} of seed {})", self.seed),
                },
                other => other,
            })
        })
    }
}

pub(crate) const CHECKS: &[Check] = &[
    Check::placer(
        "placer.starts_who_waits",
        "Only jobs that wait are started, each once.",
        |site| walk::check(site, Rule::Waits),
    ),
    Check::placer(
        "placer.limit_is_kept",
        "No more jobs are started than were asked for.",
        |site| walk::check(site, Rule::Limit),
    ),
    Check::placer(
        "placer.placements_are_well_formed",
        "A placement has the nodes of one live allocation, in order, with ids that exist, and exactly what was asked for.",
        |site| walk::check(site, Rule::WellFormed),
    ),
    Check::placer(
        "placer.no_oversubscription",
        "No core, GPU or byte of a node is given to two at once (P1).",
        |site| walk::check(site, Rule::Room),
    ),
    Check::placer(
        "placer.gangs_get_whole_idle_nodes",
        "A job on several nodes gets all of them, idle and whole, in one allocation, and has them alone (P2).",
        |site| walk::check(site, Rule::Whole),
    ),
    Check::placer(
        "placer.only_where_it_fits",
        "Jobs start on nodes that are large enough, of their scheduler and with their labels (P3).",
        |site| walk::check(site, Rule::Fits),
    ),
    Check::placer(
        "placer.never_is_never",
        "Jobs that can never start are called so, and no others (P3).",
        |site| walk::check(site, Rule::Never),
    ),
    Check::placer(
        "placer.nobody_waits_who_may_start",
        "After a decision without limit no job waits for which there is room, but for promises (P4).",
        |site| walk::check(site, Rule::Works),
    ),
    Check::placer(
        "placer.promises_are_sound",
        "A planned start is of a job that waits, on as many nodes that are up as it needs (P5).",
        |site| walk::check(site, Rule::Promise),
    ),
    Check::placer(
        "placer.wide_jobs_do_not_starve",
        "Under an endless stream of small jobs a wide one starts within the longest remaining runtime (P5).",
        streams::check,
    ),
    Check::placer(
        "placer.walltime_is_kept",
        "No job starts in an allocation that ends before it, but for the grace at the start (P6).",
        |site| walk::check(site, Rule::Walltime),
    ),
    Check::placer(
        "placer.nodes_are_kept_whole",
        "Small jobs are packed, and onto the node where the least is left over (P7).",
        packing::check,
    ),
    Check::placer(
        "placer.same_input_same_plan",
        "Two placers that are told the same decide and explain the same (P8).",
        rebuilding::twins_agree,
    ),
    Check::placer(
        "placer.only_nodes_that_are_up",
        "Nodes that drain or are down are given nothing new (P8).",
        |site| walk::check(site, Rule::Up),
    ),
    Check::placer(
        "placer.every_wait_has_a_cause",
        "Every waiting job has a cause, and no other job has one (P9).",
        |site| walk::check(site, Rule::Explains),
    ),
    Check::placer(
        "placer.rebuilt_as_told",
        "Rebuilt from a snapshot it decides as one that was told all of it.",
        rebuilding::rebuilt_as_told,
    ),
];
