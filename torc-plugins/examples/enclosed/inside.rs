//! What happens in the new processes of a step.
//!
//! There are three: the outer one that torc forks, which goes into namespaces of its own and waits; its child, which is
//! the first process there, sees to the others and reports; and the job. Owns: the enclosure. Does not know: torc.
//! Invariants: until the job is another program nothing here takes memory or a lock, since other threads of torc may
//! have held one when it was copied; when the first process ends, the kernel ends all others in the namespace with it.

use std::ffi::{CStr, CString};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::sys::resource::{Resource, UsageWho, getrusage, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid, read, setpgid, setsid, write};

/// The order that ends all processes at once: SIGKILL's number.
pub(crate) const KILL: u8 = 9;

/// What a step finds around it. All of it is made before there is a process.
pub(crate) struct World {
    private: Arc<[CString]>,
    cores: Option<CpuSet>,
    /// Bytes that one process may have.
    memory: Option<u64>,
    /// For whoever is not root: that users and groups are there as they are here.
    ids: Option<[(&'static CStr, CString); 3]>,
}

impl World {
    pub(crate) fn new(private: Arc<[CString]>, cores: Option<CpuSet>, memory: Option<u64>) -> Self {
        let same = |id: u32| CString::new(format!("{id} {id} 1")).unwrap_or_default();
        let ids = (!geteuid().is_root()).then(|| {
            [
                (c"/proc/self/setgroups", CString::from(c"deny")),
                (c"/proc/self/uid_map", same(geteuid().as_raw())),
                (c"/proc/self/gid_map", same(getegid().as_raw())),
            ]
        });
        Self { private, cores, memory, ids }
    }
}

/// What the first process of a step reports, once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// As wait(2) has it; milliseconds of all processes; bytes of the largest.
    Ended { status: i32, cpu_ms: u64, peak_memory: u64 },
    /// What could not be done.
    Failed(String),
    /// Nothing.
    None,
}

const ENDED: u8 = b'e';
const FAILED: u8 = b'f';

impl Report {
    /// Reads it to its end, which comes when the first process does.
    pub(crate) fn read(from: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        // What was read until then is there.
        let _ = from.read_to_end(&mut bytes);
        match bytes.split_first() {
            Some((&ENDED, rest)) if rest.len() == 24 => {
                let number = |at: usize| rest[at..at + 8].try_into().map(u64::from_ne_bytes);
                let (status, cpu_ms, peak) = (number(0), number(8), number(16));
                Self::Ended {
                    status: i32::try_from(status.unwrap_or_default()).unwrap_or_default(),
                    cpu_ms: cpu_ms.unwrap_or_default(),
                    peak_memory: peak.unwrap_or_default(),
                }
            }
            Some((&FAILED, what)) => Self::Failed(String::from_utf8_lossy(what).into_owned()),
            _ => Self::None,
        }
    }
}

/// Tells torc what could not be done; its error goes another way.
fn failed(report: RawFd, what: &str) {
    // SAFETY: whoever calls this keeps it open.
    let report = unsafe { BorrowedFd::borrow_raw(report) };
    // There is nobody else to tell.
    let _ = write(report, &[FAILED]);
    let _ = write(report, what.as_bytes());
}

/// Goes into the enclosure. It returns in the process that is to be the job, and nowhere else unless it fails.
pub(crate) fn enter(world: &World, orders: RawFd, report: RawFd) -> io::Result<()> {
    let step = |what: &str, done: nix::Result<()>| done.inspect_err(|_| failed(report, what));
    // Signals of a terminal are for torc, which passes on what it wants to.
    step("a session", setsid().map(drop))?;
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    if world.ids.is_some() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    step("namespaces of its own (do users have them on this host?)", unshare(flags))?;
    for (path, text) in world.ids.iter().flatten() {
        step("the user's place in a namespace", write_file(path, text))?;
    }
    // SAFETY: neither process does anything that takes memory or a lock.
    match unsafe { fork() }.inspect_err(|_| failed(report, "the first process"))? {
        ForkResult::Parent { child } => {
            close_all_but(&[]);
            // Nothing but its end can come of it.
            while waitpid(child, None) == Err(Errno::EINTR) {}
            exit(0)
        }
        ForkResult::Child => {
            die_with_parent();
            furnish(world, report)?;
        }
    }
    // SAFETY: as above.
    match unsafe { fork() }.inspect_err(|_| failed(report, "the job's process"))? {
        ForkResult::Parent { child } => {
            close_all_but(&[orders, report]);
            see_to(child, orders, report)
        }
        ForkResult::Child => {
            step("a process group", setpgid(Pid::from_raw(0), Pid::from_raw(0)))?;
            if let Some(cores) = &world.cores {
                step("its CPUs", sched_setaffinity(Pid::from_raw(0), cores))?;
            }
            if let Some(memory) = world.memory {
                step("its memory", setrlimit(Resource::RLIMIT_DATA, memory, memory))?;
            }
            Ok(())
        }
    }
}

/// Its own view of processes, and empty folders.
fn furnish(world: &World, report: RawFd) -> nix::Result<()> {
    let none: Option<&CStr> = None;
    let step = |what: &str, done: nix::Result<()>| done.inspect_err(|_| failed(report, what));
    let apart = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    step("mounts of its own", mount(none, c"/", none, apart, none))?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    for folder in &*world.private {
        let done =
            mount(Some(c"tmpfs"), folder.as_c_str(), Some(c"tmpfs"), quiet, Some(c"mode=1777"));
        step("a folder of its own", done)?;
    }
    let flags = quiet | MsFlags::MS_NOEXEC;
    step("its own /proc", mount(Some(c"proc"), c"/proc", Some(c"proc"), flags, none))
}

/// The life of the first process: it passes signals on, takes in who has ended, and reports when the job has.
fn see_to(job: Pid, orders: RawFd, report: RawFd) -> ! {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let blocked = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&children), None);
    let Ok(ended) = blocked.and_then(|()| SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK))
    else {
        exit(1)
    };
    // SAFETY: they are kept open for this, and nobody else has them here.
    let (orders, report) =
        unsafe { (BorrowedFd::borrow_raw(orders), BorrowedFd::borrow_raw(report)) };
    loop {
        if let Some(status) = take_in(job) {
            tell(report, status);
            exit(0)
        }
        // SAFETY: as above.
        let ends = unsafe { BorrowedFd::borrow_raw(ended.as_raw_fd()) };
        let mut looked_at =
            [PollFd::new(orders, PollFlags::POLLIN), PollFd::new(ends, PollFlags::POLLIN)];
        // One that was interrupted looks again.
        let _ = poll(&mut looked_at, PollTimeout::NONE);
        while let Ok(Some(_)) = ended.read_signal() {}
        if looked_at[0].any() != Some(true) {
            continue;
        }
        let mut signal = [KILL];
        // Without torc there is nobody to run for.
        let is_there = read(orders, &mut signal) == Ok(1);
        signal_all(if is_there { i32::from(signal[0]) } else { i32::from(KILL) });
        if !is_there {
            exit(1)
        }
    }
}

/// Takes in all processes that have ended; how the job did, if it is one of them.
fn take_in(job: Pid) -> Option<i32> {
    let mut status = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == job => status = Some(code << 8),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == job => status = Some(signal as i32),
            Ok(WaitStatus::StillAlive) | Err(_) => return status,
            Ok(_) => {}
        }
    }
}

/// Ends what the job has left behind, and reports.
fn tell(report: BorrowedFd<'_>, status: i32) {
    signal_all(i32::from(KILL));
    while waitpid(None, None).is_ok() {}
    let mut bytes = [ENDED; 25];
    let (cpu_ms, peak) = getrusage(UsageWho::RUSAGE_CHILDREN).map_or((0, 0), |usage| {
        let cpu = usage.user_time().num_milliseconds() + usage.system_time().num_milliseconds();
        (cpu.unsigned_abs(), usage.max_rss().unsigned_abs() * 1024)
    });
    bytes[1..9].copy_from_slice(&u64::from(status.unsigned_abs()).to_ne_bytes());
    bytes[9..17].copy_from_slice(&cpu_ms.to_ne_bytes());
    bytes[17..].copy_from_slice(&peak.to_ne_bytes());
    // So few bytes go in one piece or not at all, and if not, torc is gone.
    let _ = write(report, &bytes);
}

/// Signals every process of the namespace but this, its first.
fn signal_all(signal: i32) {
    // SAFETY: a system call about numbers; that there is nobody is no failure.
    unsafe { libc::kill(-1, signal) };
}

/// Has this process killed when the one that forked it ends.
fn die_with_parent() {
    // SAFETY: a system call about numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

fn write_file(path: &CStr, text: &CStr) -> nix::Result<()> {
    let file = open(path, OFlag::O_WRONLY, Mode::empty())?;
    write(&file, text.to_bytes()).map(drop)
}

/// Closes what was torc's, but for the standard streams and these two at most.
fn close_all_but(kept: &[RawFd]) {
    const LAST: RawFd = RawFd::MAX;
    let mut from = 3;
    let (low, high) = match *kept {
        [one, other] => (one.min(other), one.max(other)),
        _ => (LAST, LAST),
    };
    for end in [low, high, LAST] {
        if from < end {
            close_range(from, end - 1);
        }
        from = end.saturating_add(1);
    }
}

fn close_range(first: RawFd, last: RawFd) {
    /// What is closed one by one, where the kernel (before 5.9) cannot do all at once.
    const MOST: RawFd = 4096;
    // SAFETY: a system call about numbers; what they stand for is used by nobody in this process.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) != 0 {
            for fd in first..=last.min(MOST) {
                libc::close(fd);
            }
        }
    }
}

/// Ends this process without all that a program does at its end.
fn exit(code: i32) -> ! {
    // SAFETY: it has no memory to be unsafe with afterwards.
    unsafe { libc::_exit(code) }
}
