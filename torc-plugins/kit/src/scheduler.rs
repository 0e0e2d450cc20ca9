//! What a scheduler must do: take a request once, say where it stands, end it when asked, and never invent an end.
//!
//! Owns: the checks of [`Scheduler`]. Does not know: queues, or what a source's own settings mean: requests begin as the
//! one that the caller gives. Invariant: what a check asked for it cancels, whatever it found.

use std::cell::RefCell;
use std::fs;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use torc_core::traits::{
    AllocationEnd, AllocationHandle, AllocationRequest, AllocationState, Scheduler, SchedulerError,
    Shapes,
};

use crate::check::Check;
use crate::finding::{Finding, Verdict, broken, ensure, same};
use crate::steps::ODD_WORDS;

/// A scheduler to look at, and what may be asked of it.
pub struct SchedulerSite<'a> {
    /// The scheduler.
    pub scheduler: &'a dyn Scheduler,
    /// A request that it takes, for one node and some minutes, with the settings and the environment that it needs. Its
    /// command, folder, output and name are replaced.
    pub request: AllocationRequest,
    /// A request that it refuses for good, if there is one.
    pub refused: Option<AllocationRequest>,
    /// A name as it gives them, of no allocation; `None`: there is none that is safe to ask about.
    pub unknown: Option<AllocationHandle>,
    /// A folder, absolute, that its nodes see; each check makes one of its own there.
    pub folder: PathBuf,
    /// Begins all keys; unique, so that nothing of another time is found.
    pub key: String,
    /// How long any one thing may take: an allocation to begin, to end, to be seen.
    pub patience: Duration,
    /// The pause between two questions.
    pub look_every: Duration,
}

pub(crate) const CHECKS: &[Check] = &[
    Check::scheduler(
        "scheduler.shapes",
        "What nodes there could be is told with numbers, or as unknown.",
        |site| Box::pin(shapes(site)),
    ),
    Check::scheduler(
        "scheduler.command_runs",
        "The command of a request runs once, with all its words, and its end is seen.",
        |site| Box::pin(command_runs(site)),
    ),
    Check::scheduler(
        "scheduler.surroundings",
        "The command has the folder, the environment, the umask and the output file of the request.",
        |site| Box::pin(surroundings(site)),
    ),
    Check::scheduler("scheduler.failing_command", "A command that fails is no success.", |site| {
        Box::pin(failing_command(site))
    }),
    Check::scheduler(
        "scheduler.observed_in_order",
        "States are told in the order of the question, one for each, also of one asked about twice.",
        |site| Box::pin(observed_in_order(site)),
    ),
    Check::scheduler(
        "scheduler.found_by_its_key",
        "A request is found by its whole key as soon as it was made, and by no other.",
        |site| Box::pin(found_by_its_key(site)),
    ),
    Check::scheduler(
        "scheduler.cancelled",
        "A cancelled allocation ends, with its command; to cancel it again is no error.",
        |site| Box::pin(cancelled(site)),
    ),
    Check::scheduler(
        "scheduler.unknown",
        "An allocation that never was is unknown, and to cancel it is no error.",
        |site| Box::pin(unknown(site)),
    ),
    Check::scheduler(
        "scheduler.refused",
        "A request that is wrong is refused for good, in words, and leaves nothing to find.",
        |site| Box::pin(refused(site)),
    ),
    Check::scheduler(
        "scheduler.after_another",
        "An allocation that is to begin after another does not before, and does then.",
        |site| Box::pin(after_another(site)),
    ),
];

/// What a check has asked for.
struct Desk<'a> {
    site: &'a SchedulerSite<'a>,
    name: &'a str,
    folder: PathBuf,
    asked_for: RefCell<Vec<AllocationHandle>>,
}

async fn with<'a, F>(site: &'a SchedulerSite<'a>, name: &'a str, look: F) -> Verdict
where
    F: AsyncFnOnce(&Desk<'a>) -> Verdict,
{
    let mut count = 1;
    let folder = loop {
        let path = site.folder.join(format!("{name}-{count}"));
        match fs::create_dir(&path) {
            Ok(()) => break path,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => count += 1,
            Err(error) => {
                return Err(Finding::NotShown(format!("{}: {error}", path.display())));
            }
        }
    };
    let desk = Desk { site, name, folder, asked_for: RefCell::default() };
    let verdict = look(&desk).await;
    let left = desk.asked_for.take();
    for handle in left {
        // Those that have ended are no matter; how cancelling goes is a check of its own.
        let _ = desk.within("to cancel what is left", site.scheduler.cancel(&handle)).await;
    }
    verdict
}

fn is_over(state: &AllocationState) -> bool {
    matches!(state, AllocationState::Ended { .. } | AllocationState::Unknown)
}

/// Whether it ended like that, as far as the source tells: it may not know, and may have forgotten.
fn may_have_ended(state: &AllocationState, expected: AllocationEnd) -> bool {
    match state {
        AllocationState::Ended { cause, .. } => {
            *cause == expected || *cause == AllocationEnd::Unknown
        }
        AllocationState::Unknown => true,
        _ => false,
    }
}

impl<'a> Desk<'a> {
    async fn within<T>(&self, what: &str, work: impl Future<Output = T>) -> Result<T, Finding> {
        let patience = self.site.patience;
        let late = |_| broken(what, format!("nothing of it for {} s", patience.as_secs()));
        tokio::time::timeout(patience, work).await.map_err(late)
    }

    /// Asks until there is an answer. A source may be out of reach for a while.
    async fn answer<T>(
        &self,
        what: &str,
        mut ask: impl AsyncFnMut() -> Result<T, SchedulerError>,
    ) -> Result<T, Finding> {
        let asking = async {
            loop {
                match ask().await {
                    Err(SchedulerError::Unavailable(_) | SchedulerError::NotNow(_)) => {
                        tokio::time::sleep(self.site.look_every).await;
                    }
                    answer => return answer,
                }
            }
        };
        self.within(what, asking).await?.map_err(|error| broken(what, error.to_string()))
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn key(&self, label: &str) -> String {
        format!("{}-{}-{label}", self.site.key, self.name)
    }

    /// A request for a shell script in the check's folder.
    fn request(&self, label: &str, script: &str) -> AllocationRequest {
        let mut request = self.site.request.clone();
        request.name = format!("check-{label}");
        request.command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        request.working_dir = self.folder.to_string_lossy().into_owned();
        request.output = self.path(&format!("{label}.log"));
        request
    }

    async fn submit(
        &self,
        label: &str,
        request: &AllocationRequest,
    ) -> Result<AllocationHandle, Finding> {
        let key = self.key(label);
        let submit = async || self.site.scheduler.submit(request, &key).await;
        let handle = self.answer("the request to be taken", submit).await?;
        ensure(!handle.0.trim().is_empty(), "a name for the allocation", || format!("{handle:?}"))?;
        self.asked_for.borrow_mut().push(handle.clone());
        Ok(handle)
    }

    async fn observe(&self, of: &[AllocationHandle]) -> Result<Vec<AllocationState>, Finding> {
        let observe = async || self.site.scheduler.observe(of).await;
        let states = self.answer("states", observe).await?;
        same("the number of states", &of.len(), &states.len())?;
        Ok(states)
    }

    async fn state(&self, of: &AllocationHandle) -> Result<AllocationState, Finding> {
        let states = self.observe(std::slice::from_ref(of)).await?;
        states.into_iter().next().ok_or_else(|| broken("a state", "none"))
    }

    async fn find(&self, key: &str) -> Result<Option<AllocationHandle>, Finding> {
        let find = async || self.site.scheduler.find(key).await;
        self.answer("an answer whether a key is known", find).await
    }

    async fn cancel(&self, handle: &AllocationHandle) -> Verdict {
        let cancel = async || self.site.scheduler.cancel(handle).await;
        self.answer("an allocation to be cancelled without an error", cancel).await
    }

    async fn until_over(&self, handle: &AllocationHandle) -> Result<AllocationState, Finding> {
        let look = async {
            loop {
                let state = self.state(handle).await?;
                if is_over(&state) {
                    return Ok(state);
                }
                tokio::time::sleep(self.site.look_every).await;
            }
        };
        self.within("the allocation to end", look).await?
    }

    async fn appears(&self, file: &str) -> Verdict {
        let look = async {
            while !self.read(file).ends_with('\n') {
                tokio::time::sleep(self.site.look_every).await;
            }
        };
        self.within(&format!("the command to write its file {file}"), look).await
    }
}

/// Gives signs of life for ever.
const FOREVER: &str = "while :; do echo x >> beat; sleep 0.1; done";

/// Many times the time between two of them.
const SILENCE: Duration = Duration::from_secs(1);

async fn shapes<'a>(site: &'a SchedulerSite<'a>) -> Verdict {
    with(site, "shapes", async |desk| {
        let ask = async || site.scheduler.shapes(&site.request).await;
        let Shapes::Known(shapes) = desk.answer("the kinds of nodes", ask).await? else {
            return Ok(());
        };
        for shape in &shapes {
            let is_node = shape.cpus > 0 && shape.threads_per_core > 0 && shape.memory > 0;
            ensure(
                is_node && shape.count > 0,
                "nodes that there are, with CPUs and memory",
                || format!("{shape:?}"),
            )?;
        }
        ensure(!shapes.is_empty(), "nodes for a request that is taken", || "none".to_owned())
    })
    .await
}

async fn command_runs<'a>(site: &'a SchedulerSite<'a>) -> Verdict {
    with(site, "command_runs", async |desk| {
        let script = "for word do printf '[%s]\\n' \"$word\"; done >> words";
        let mut request = desk.request("words", script);
        request.command.push("sh".to_owned());
        request.command.extend(ODD_WORDS.map(str::to_owned));
        let handle = desk.submit("words", &request).await?;
        let state = desk.until_over(&handle).await?;
        let expected = "an allocation whose command exited with 0 to have completed";
        let is_success = may_have_ended(&state, AllocationEnd::Completed);
        ensure(is_success, expected, || format!("{state:?}"))?;
        let expected: String = ODD_WORDS.iter().map(|word| format!("[{word}]\n")).collect();
        same("the words of the command, once", &expected, &desk.read("words"))
    })
    .await
}

async fn surroundings<'a>(site: &'a SchedulerSite<'a>) -> Verdict {
    with(site, "surroundings", async |desk| {
        // Whole under its name or not there: how often a command runs is the affair of another check.
        let script = "{ printf '%s\\n' \"$TORC_KIT\" \"$(umask)\"; pwd -P; } > seen.$$; mv seen.$$ seen; echo told";
        let mut request = desk.request("seen", script);
        let value = "it's \"odd\" $value";
        request.env.push(("TORC_KIT".into(), value.into()));
        request.umask = Some(0o27);
        let handle = desk.submit("seen", &request).await?;
        desk.until_over(&handle).await?;
        let folder = fs::canonicalize(&desk.folder).unwrap_or_default();
        let expected = format!("{value}\n0027\n{}\n", folder.display());
        same("variable, umask and folder", &expected, &desk.read("seen"))?;
        let log = desk.read("seen.log");
        // A source may write lines of its own there.
        ensure(log.contains("told\n"), "the command's output in the request's file", || {
            format!("{log:?}")
        })
    })
    .await
}

async fn failing_command<'a>(site: &'a SchedulerSite<'a>) -> Verdict {
    with(site, "failing_command", async |desk| {
        let handle = desk.submit("fails", &desk.request("fails", "exit 3")).await?;
        let state = desk.until_over(&handle).await?;
        let expected = "an allocation whose command exited with 3 to have failed";
        ensure(may_have_ended(&state, AllocationEnd::Failed), expected, || format!("{state:?}"))
    })
    .await
}

async fn observed_in_order<'a>(site: &'a SchedulerSite<'a>) -> Verdict {
    with(site, "observed_in_order", async |desk| {
        let long = desk.submit("long", &desk.request("long", FOREVER)).await?;
        let short = desk.submit("short", &desk.request("short", "exit 0")).await?;
        ensure(long != short, "two names for two allocations", || format!("{long} twice"))?;
        desk.appears("beat").await?;
        desk.until_over(&short).await?;
        for order in [[&long, &short, &long], [&short, &long, &short]] {
            let asked = order.map(Clone::clone);
            let states = desk.observe(&asked).await?;
            let are_over: Vec<bool> = states.iter().map(is_over).collect();
            let expected = order.map(|handle| *handle == short);
            ensure(
                are_over == expected,
                &format!("which of {asked:?} are over: {expected:?}"),
                || format!("{states:?}"),
            )?;
        }
        same("the states of none", &Vec::new(), &desk.observe(&[]).await?)
    })
    .await
}

async fn found_by_its_key<'a>(site: &'a SchedulerSite<'a>) -> Verdict {
    with(site, "found_by_its_key", async |desk| {
        let key = desk.key("found");
        same("what is found before a request was made", &None, &desk.find(&key).await?)?;
        let handle = desk.submit("found", &desk.request("found", FOREVER)).await?;
        let second = desk.submit("found2", &desk.request("found2", FOREVER)).await?;
        same("what is found by its key", &Some(handle), &desk.find(&key).await?)?;
        same(
            "what is found by another key",
            &Some(second),
            &desk.find(&desk.key("found2")).await?,
        )?;
        let count = key.chars().count();
        let part = |from: usize, to: usize| key.chars().take(to).skip(from).collect::<String>();
        for other in [part(0, count - 1), part(1, count)] {
            same("what is found by a part of a key", &None, &desk.find(&other).await?)?;
        }
        Ok(())
    })
    .await
}

async fn cancelled<'a>(site: &'a SchedulerSite<'a>) -> Verdict {
    with(site, "cancelled", async |desk| {
        let handle = desk.submit("long", &desk.request("long", FOREVER)).await?;
        desk.appears("beat").await?;
        desk.cancel(&handle).await?;
        desk.cancel(&handle).await?;
        let state = desk.until_over(&handle).await?;
        let expected = "an allocation that was cancelled to have ended so";
        ensure(may_have_ended(&state, AllocationEnd::Cancelled), expected, || {
            format!("{state:?}")
        })?;
        let before = desk.read("beat").len();
        tokio::time::sleep(SILENCE).await;
        same("no sign of life of a command that has ended", &before, &desk.read("beat").len())?;
        desk.cancel(&handle).await?;
        let state = desk.state(&handle).await?;
        ensure(is_over(&state), "it to have ended still", || format!("{state:?}"))
    })
    .await
}

async fn unknown<'a>(site: &'a SchedulerSite<'a>) -> Verdict {
    let Some(handle) = &site.unknown else {
        return Err(Finding::NotShown(
            "no name of an allocation that never was is given".to_owned(),
        ));
    };
    with(site, "unknown", async |desk| {
        for _ in 0..2 {
            let state = desk.state(handle).await?;
            let expected = "an allocation that never was to be unknown, or over";
            ensure(is_over(&state), expected, || format!("{state:?}"))?;
            desk.cancel(handle).await?;
        }
        Ok(())
    })
    .await
}

async fn refused<'a>(site: &'a SchedulerSite<'a>) -> Verdict {
    let Some(request) = &site.refused else {
        return Err(Finding::NotShown("no request that it refuses is given".to_owned()));
    };
    with(site, "refused", async |desk| {
        let key = desk.key("refused");
        let answer = desk.within("an answer", site.scheduler.submit(request, &key)).await?;
        match answer {
            Err(SchedulerError::Refused(words)) => {
                ensure(!words.trim().is_empty(), "a refusal to say why", || format!("{words:?}"))?;
            }
            Err(error) => return Err(broken("a refusal for good", error.to_string())),
            Ok(handle) => {
                desk.asked_for.borrow_mut().push(handle.clone());
                return Err(broken("a refusal", format!("the allocation {handle}")));
            }
        }
        same("what is found of a refused request", &None, &desk.find(&key).await?)
    })
    .await
}

async fn after_another<'a>(site: &'a SchedulerSite<'a>) -> Verdict {
    with(site, "after_another", async |desk| {
        let first = desk.submit("first", &desk.request("first", FOREVER)).await?;
        let mut request = desk.request("second", "echo ran >> second");
        request.after = Some(first.clone());
        let second = desk.submit("second", &request).await?;
        desk.appears("beat").await?;
        tokio::time::sleep(SILENCE).await;
        same("what it did before the other ended", "", desk.read("second").as_str())?;
        let state = desk.state(&second).await?;
        ensure(!is_over(&state), "it to wait", || format!("{state:?}"))?;
        desk.cancel(&first).await?;
        desk.until_over(&second).await?;
        same("what it did when the other had ended", "ran\n", desk.read("second").as_str())
    })
    .await
}
