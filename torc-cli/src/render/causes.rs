//! Why a job that waits for no other has not started, in words: as a sentence, or briefly in a table.

use torc_core::engine::{LeftOver, Moment, Named, NotAsked, WaitCause};
use torc_core::ids::JobId;
use torc_core::traits::{AllocationEnd, NotNowReason};

use super::local_time;
use super::reasons::{lost, not_now, plural};

/// What a job waits for, in a few words that may follow "waits for".
pub(crate) fn briefly(cause: &WaitCause, name: impl Fn(JobId) -> String) -> String {
    match cause {
        WaitCause::NotNow(reason) => not_now(reason, name),
        WaitCause::Never(reason) => format!("never: {reason}"),
        WaitCause::NotAsked(action) => {
            format!("nodes (`{}`), asked for {}", action.scheduler, once(action, false))
        }
        WaitCause::LeftOver(LeftOver::Refused { scheduler, times, reason }) => {
            format!("nodes (`{scheduler}`), refused {}{}", repeated(*times), after_colon(reason))
        }
        WaitCause::LeftOver(LeftOver::CameToNothing { scheduler, times, reason }) => {
            let times = repeated(*times);
            format!("nodes (`{scheduler}`), which came to nothing {times}{}", after_colon(reason))
        }
        WaitCause::LeftOver(left) => format!("nodes: {}", left_over(left)),
        WaitCause::Recovering { attempt, .. } => format!("its recovery script (attempt {attempt})"),
    }
}

/// The same as a sentence. `is_over`: the run has ended without the job.
pub(crate) fn sentence(cause: &WaitCause, name: impl Fn(JobId) -> String, is_over: bool) -> String {
    match cause {
        WaitCause::NotNow(NotNowReason::WaitsForIdleNodes { needs, idle, unusable, .. }) => {
            format!(
                "it waits for {} more idle nodes: it needs {needs} at once, {idle} of the best \
             allocation are idle{}",
                needs.saturating_sub(*idle),
                lost(*unusable)
            )
        }
        WaitCause::NotNow(reason) => format!("it waits for {}", not_now(reason, name)),
        WaitCause::Never(reason) if is_over => {
            format!("it could not start on the nodes there were: {reason}")
        }
        WaitCause::Never(reason) => format!("it can never start on the nodes there are: {reason}"),
        WaitCause::NotAsked(action) => {
            let are = if is_over { "were to be" } else { "are" };
            format!("its nodes (`{}`) {are} asked for {}", action.scheduler, once(action, is_over))
        }
        WaitCause::LeftOver(left) => left_over(left),
        WaitCause::Recovering { attempt, since } => format!(
            "it is tried again once its recovery script has ended, which is under way since attempt \
             {attempt} failed, at {}",
            local_time(*since)
        ),
    }
}

/// How the last of some allocations ended, where that says more than that it did.
fn last_end(last: Option<AllocationEnd>, of_several: bool) -> String {
    let said = last.filter(|end| !matches!(end, AllocationEnd::Completed | AllocationEnd::Unknown));
    let which = if of_several { "; the last one" } else { "" };
    said.map_or_else(String::new, |end| format!("{which}: {}", ended(end)))
}

fn left_over(left: &LeftOver) -> String {
    match left {
        LeftOver::Refused { scheduler, times, reason } => {
            let times = repeated(*times);
            format!("its nodes (`{scheduler}`) were refused {times}{}", after_colon(reason))
        }
        LeftOver::CameToNothing { scheduler, times, reason } => {
            let times = repeated(*times);
            format!("its nodes (`{scheduler}`) came to nothing {times}{}", after_colon(reason))
        }
        LeftOver::Ended { scheduler: None, .. } => {
            "the time on the nodes there were was up before its turn".to_owned()
        }
        LeftOver::Ended { allocations: 1, last, .. } => {
            format!("the allocation that it fits was over before its turn{}", last_end(*last, false))
        }
        LeftOver::Ended { allocations, last, .. } => format!(
            "the {allocations} allocations that it fits were over before its turn{}",
            last_end(*last, true)
        ),
        LeftOver::NoNodes => {
            "no nodes were granted that it could use; `torc allocations --all` shows what was asked \
             for"
                .to_owned()
        }
    }
}

/// The word for how an allocation ended.
pub(crate) fn ended(cause: AllocationEnd) -> &'static str {
    match cause {
        AllocationEnd::Completed => "completed",
        AllocationEnd::Failed => "failed",
        AllocationEnd::Cancelled => "cancelled",
        AllocationEnd::TimedOut => "timed out",
        AllocationEnd::NodeFailed => "node failed",
        AllocationEnd::Preempted => "preempted",
        AllocationEnd::OutOfMemory => "out of memory",
        AllocationEnd::Unknown => "ended",
    }
}

fn repeated(times: u32) -> String {
    if times == 1 { "once".to_owned() } else { plural(times, "time") }
}

fn after_colon(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

/// "once b and c are ready; c is not".
fn once(action: &NotAsked, is_over: bool) -> String {
    let NotAsked { moment, jobs, missing, .. } = action;
    let (is, are, has, have) =
        if is_over { ("was", "were", "had", "had") } else { ("is", "are", "has", "have") };
    let one_or = |named: &Named, one, more| if named.count == 1 { one } else { more };
    let verb = |named: &Named| match moment {
        Moment::OnJobsComplete => one_or(named, has, have),
        _ => one_or(named, is, are),
    };
    match moment {
        Moment::OnWorkflowStart => "as the run begins".to_owned(),
        Moment::OnWorkflowComplete => format!("once all jobs {have} ended, itself among them"),
        Moment::OnWorkerStart => "once a worker starts".to_owned(),
        Moment::OnWorkerComplete => "once a worker leaves".to_owned(),
        Moment::OnJobsReady | Moment::OnJobsComplete => {
            let done = if *moment == Moment::OnJobsReady { "ready" } else { "ended" };
            let when = format!("once {} {} {done}", names(jobs), verb(jobs));
            match missing.count {
                0 => when,
                count if count == jobs.count && count > 1 => {
                    format!("{when}; none of them {}", if done == "ready" { is } else { has })
                }
                _ if jobs.count == 1 => format!("{when}; it {} not", verb(missing)),
                _ => format!("{when}; {} {} not", names(missing), verb(missing)),
            }
        }
    }
}

/// "a, b and c", "a, b, c, d and 3 more".
fn names(named: &Named) -> String {
    let shown = u32::try_from(named.first.len()).unwrap_or(u32::MAX);
    let more = named.count.saturating_sub(shown);
    match (named.first.split_last(), more) {
        (None, _) => "nothing".to_owned(),
        (Some((last, [])), 0) => last.clone(),
        (Some((last, before)), 0) => format!("{} and {last}", before.join(", ")),
        (Some(_), more) => format!("{} and {more} more", named.first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use torc_core::ids::AttemptId;
    use torc_core::time::Timestamp;
    use torc_core::traits::NeverReason;

    use super::*;

    fn name(job: JobId) -> String {
        format!("job{job}")
    }

    /// What is said in a table, of a run that goes on, and of one that is over.
    #[track_caller]
    fn check(cause: &WaitCause, expected: [&str; 3]) {
        let said =
            [briefly(cause, name), sentence(cause, name, false), sentence(cause, name, true)];
        assert_eq!(said, expected);
    }

    fn named(count: u32, first: &[&str]) -> Named {
        Named { count, first: first.iter().map(|name| (*name).to_owned()).collect() }
    }

    fn not_asked(moment: Moment, jobs: Named, missing: Named) -> WaitCause {
        WaitCause::NotAsked(NotAsked { scheduler: "late".to_owned(), moment, jobs, missing })
    }

    #[test]
    fn what_will_be_asked_for_is_told_with_its_moment() {
        let two = named(2, &["b", "c"]);
        let cause = not_asked(Moment::OnJobsReady, two.clone(), named(1, &["c"]));
        check(
            &cause,
            [
                "nodes (`late`), asked for once b and c are ready; c is not",
                "its nodes (`late`) are asked for once b and c are ready; c is not",
                "its nodes (`late`) were to be asked for once b and c were ready; c was not",
            ],
        );
        let now = |moment, jobs, missing, expected: &str| {
            let words = sentence(&not_asked(moment, jobs, missing), name, false);
            assert_eq!(words, format!("its nodes (`late`) are asked for {expected}"));
        };
        let c = || named(1, &["c"]);
        let many = || named(7, &["a", "b", "c", "d"]);
        let none = Named::default;
        let (ready, complete) = (Moment::OnJobsReady, Moment::OnJobsComplete);
        now(ready, c(), c(), "once c is ready; it is not");
        now(complete, c(), c(), "once c has ended; it has not");
        now(complete, two.clone(), c(), "once b and c have ended; c has not");
        now(complete, two.clone(), two.clone(), "once b and c have ended; none of them has");
        now(ready, many(), two, "once a, b, c, d and 3 more are ready; b and c are not");
        now(ready, many(), none(), "once a, b, c, d and 3 more are ready");
        let whole = Moment::OnWorkflowComplete;
        now(whole, none(), none(), "once all jobs have ended, itself among them");
        now(Moment::OnWorkerStart, none(), none(), "once a worker starts");
        now(Moment::OnWorkerComplete, none(), none(), "once a worker leaves");
        now(Moment::OnWorkflowStart, none(), none(), "as the run begins");
    }

    #[test]
    fn what_came_to_nothing_is_told_with_the_words_of_the_scheduler() {
        let (cpu, bad) = (|| "cpu".to_owned(), || "Invalid account".to_owned());
        let refused = LeftOver::Refused { scheduler: cpu(), times: 5, reason: bad() };
        let words = "its nodes (`cpu`) were refused 5 times: Invalid account";
        let brief = "nodes (`cpu`), refused 5 times: Invalid account";
        check(&WaitCause::LeftOver(refused), [brief, words, words]);
        let nothing = LeftOver::CameToNothing { scheduler: cpu(), times: 1, reason: String::new() };
        let words = "its nodes (`cpu`) came to nothing once";
        let brief = "nodes (`cpu`), which came to nothing once";
        check(&WaitCause::LeftOver(nothing), [brief, words, words]);
        let words = "no nodes were granted that it could use; `torc allocations --all` shows what was \
                     asked for";
        check(&WaitCause::LeftOver(LeftOver::NoNodes), [&format!("nodes: {words}"), words, words]);
    }

    #[test]
    fn what_is_over_is_told() {
        let over = |scheduler: Option<&str>, allocations, last, expected: &str| {
            let scheduler = scheduler.map(str::to_owned);
            let cause = WaitCause::LeftOver(LeftOver::Ended { scheduler, allocations, last });
            check(&cause, [&format!("nodes: {expected}"), expected, expected]);
        };
        let one = "the allocation that it fits was over before its turn";
        over(Some("cpu"), 1, None, one);
        over(Some("cpu"), 1, Some(AllocationEnd::Completed), one);
        over(Some("cpu"), 1, Some(AllocationEnd::Cancelled), &format!("{one}: cancelled"));
        over(
            Some("cpu"),
            3,
            Some(AllocationEnd::TimedOut),
            "the 3 allocations that it fits were over before its turn; the last one: timed out",
        );
        over(None, 1, None, "the time on the nodes there were was up before its turn");
    }

    #[test]
    fn a_recovery_script_is_waited_for() {
        let since = Timestamp(1_000_000);
        let at = local_time(since);
        let sentence = format!(
            "it is tried again once its recovery script has ended, which is under way since attempt 2 \
             failed, at {at}"
        );
        let cause = WaitCause::Recovering { attempt: AttemptId(2), since };
        check(&cause, ["its recovery script (attempt 2)", &sentence, &sentence]);
    }

    #[test]
    fn never_is_not_something_to_wait_for() {
        check(
            &WaitCause::Never(NeverReason::Cpus { needs: 8, largest: 4 }),
            [
                "never: needs 8 CPUs per node; the largest node has 4",
                "it can never start on the nodes there are: needs 8 CPUs per node; the largest node \
                 has 4",
                "it could not start on the nodes there were: needs 8 CPUs per node; the largest node \
                 has 4",
            ],
        );
        check(
            &WaitCause::NotNow(NotNowReason::NoAllocation),
            ["nodes", "it waits for nodes", "it waits for nodes"],
        );
    }
}
