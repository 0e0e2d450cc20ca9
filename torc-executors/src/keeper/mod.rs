//! The keeper: a small, single-threaded process that is the parent of all jobs of a Local executor.
//!
//! It starts them, reaps them, signals them, and reports to the torc that started it; it knows
//! processes and files, no workflows, no resources and no engine. It is this same program, started
//! once more with a hidden argument and with one end of a socket pair as its standard input.
//!
//! A step's main process is its job, or a launcher that runs the job elsewhere, like srun, or a command that
//! is no job's.
//!
//! What it guarantees: no process of any job outlives it or torc. It is a session leader without a
//! terminal, so that Ctrl-C reaches torc only; it adopts whatever its jobs leave behind; and when
//! the socket reports that torc has ended, however that happened, or torc does not renew a lease that it has
//! asked for, it gives launchers some time to end their jobs, kills every descendant it has, and ends after the
//! last of them. It is deaf to all signals that a user might send to it; its jobs
//! start with none blocked and none ignored.

pub(crate) mod ending;
pub(crate) mod files;
mod lease;
pub(crate) mod mark;
mod orphans;
mod relay;
mod reports;
mod signals;
mod spawn;
mod step;
mod supervisor;
pub(crate) mod wire;

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{UnixAddr, getsockname};

use reports::Reports;
use supervisor::Supervisor;
use wire::{Inbox, Order, Report, StepKey};

/// The first argument of a program that is to become a keeper.
pub(crate) const ARGUMENT: &str = "__torc-keeper";

/// The exit code of a keeper that could not work (`EX_SOFTWARE` of `sysexits.h`).
const FAILED: u8 = 70;

/// How long the last reports may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A fact about the program, which never changes once it is one.
static HAS_ASKED: AtomicBool = AtomicBool::new(false);

/// Bytes read from the socket at once.
const READ_SIZE: usize = 64 * 1024;

/// Becomes a keeper if this process was started as one, and returns its exit code once it has
/// ended: `main` must return it then, and do nothing else. Returns `None` at once otherwise.
///
/// Every program that starts a [`LocalExecutor`](crate::local::LocalExecutor) calls this first thing
/// in its `main`, before it starts a thread or a runtime, parses arguments or prints.
#[must_use = "a keeper must return this exit code from main and do nothing else"]
pub fn run_if_asked() -> Option<ExitCode> {
    HAS_ASKED.store(true, Ordering::Relaxed);
    let argument = std::env::args_os().nth(1)?;
    if argument != OsStr::new(ARGUMENT) {
        return None;
    }
    let socket = inherited_socket()?;
    Some(match run(&socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut reports = Reports::default();
            reports.add(&Report::Failed(error.to_string()));
            // Nobody else could be told.
            let _ = reports.flush(&socket);
            ExitCode::from(FAILED)
        }
    })
}

/// Whether this program has called [`run_if_asked`], so that it becomes a keeper where it is started as one.
pub fn is_possible() -> bool {
    HAS_ASKED.load(Ordering::Relaxed)
}

/// The socket to torc, which is standard input. Jobs never see it: standard input becomes
/// `/dev/null`, and the copy is closed when they are executed.
fn inherited_socket() -> Option<UnixStream> {
    let input = io::stdin();
    let socket: OwnedFd = input.as_fd().try_clone_to_owned().ok()?;
    let is_socket = {
        use std::os::fd::AsRawFd;
        getsockname::<UnixAddr>(socket.as_raw_fd()).is_ok()
    };
    is_socket.then(|| UnixStream::from(socket))
}

fn run(socket: &UnixStream) -> io::Result<()> {
    signals::prepare()?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::setsid()?;
    nix::sys::prctl::set_child_subreaper(true)?;
    nix::sys::prctl::set_name(c"torc-keeper")?;
    std::env::set_current_dir("/")?;
    let mut supervisor = Supervisor::new(null)?;
    let ends =
        SignalFd::with_flags(&signals::child(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    // Whatever goes wrong with the connection, the jobs end before the keeper does.
    let served = serve(socket, &ends, &mut supervisor);
    // A torc that hangs takes nothing any more.
    let _ = socket.set_write_timeout(Some(LAST_WORDS));
    // Steps that ended by themselves are reported as such if torc only closed the connection.
    supervisor.reap();
    let _ = supervisor.reports.flush(socket);
    supervisor.dismiss_launchers(&ends);
    // A torc that closes the connection in peace still listens.
    let _ = supervisor.reports.flush(socket);
    supervisor.end_everything();
    served
}

/// Takes orders and reports ends until torc is gone, or its lease is over.
fn serve(socket: &UnixStream, ends: &SignalFd, supervisor: &mut Supervisor) -> io::Result<()> {
    supervisor.reports.add(&Report::Ready);
    if supervisor.reports.flush(socket).is_err() {
        return Ok(());
    }
    let mut inbox = Inbox::default();
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let Some(ready) = wait(socket, ends, supervisor)? else { continue };
        for key in ready.voices {
            supervisor.hear(key);
        }
        if ready.has_ends {
            // One reading suffices: a pending signal is not counted.
            let _ = ends.read_signal()?;
            supervisor.reap();
        }
        supervisor.mind_deadlines();
        if supervisor.reports.are_due() && supervisor.reports.flush(socket).is_err() {
            return Ok(());
        }
        if ready.has_orders {
            let mut stream = socket;
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => inbox.extend(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Ok(()),
            }
            if obey(&mut inbox, socket, supervisor)?.is_none() {
                return Ok(());
            }
            // The end of a child is not signalled while another is started.
            supervisor.reap();
        }
        // While there are orders the renewal may be among them.
        if !ready.has_orders && supervisor.lease.has_ended(Instant::now()) {
            return Ok(());
        }
    }
}

/// What there is to do.
struct Ready {
    has_orders: bool,
    has_ends: bool,
    /// The launchers that said something.
    voices: Vec<StepKey>,
}

/// Waits until there is something to do; `None` when a signal came instead.
fn wait(
    socket: &UnixStream,
    ends: &SignalFd,
    supervisor: &Supervisor,
) -> io::Result<Option<Ready>> {
    let to_read = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
    let (keys, voices): (Vec<StepKey>, Vec<_>) = supervisor.voices().unzip();
    let mut polled = vec![to_read(socket.as_fd()), to_read(ends.as_fd())];
    polled.extend(voices.into_iter().map(to_read));
    match poll(&mut polled, supervisor.patience()) {
        Ok(_) => {}
        Err(nix::Error::EINTR) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let mut ready = polled.iter().map(|one| one.any().unwrap_or(true));
    Ok(Some(Ready {
        has_orders: ready.next().unwrap_or(false),
        has_ends: ready.next().unwrap_or(false),
        voices: keys.into_iter().zip(ready).filter_map(|(key, is)| is.then_some(key)).collect(),
    }))
}

/// Carries out all orders received so far; `None` when torc is gone.
fn obey(
    inbox: &mut Inbox,
    socket: &UnixStream,
    supervisor: &mut Supervisor,
) -> io::Result<Option<()>> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    while let Some(order) = inbox.next::<Order>().map_err(invalid)? {
        if let Order::Lease(length) = &order {
            // A report that torc does not take for so long would keep the end of the lease from being seen.
            socket.set_write_timeout(Some(*length))?;
        }
        supervisor.obey(order);
        // Many launches in a row take a while.
        if supervisor.reports.are_due() && supervisor.reports.flush(socket).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(()))
}
