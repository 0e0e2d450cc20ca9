//! A folder with a torc of its own.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Ended, Fifo, RUN_PATIENCE, Started, torc};

/// A folder with a torc of its own: nothing is shared with other tests or the user's files.
pub struct Place {
    dir: TempDir,
    /// Fifos that jobs read: kept open, since what is in a fifo that nobody has open is lost.
    gates: RefCell<Vec<File>>,
    /// Set for each command.
    env: RefCell<Vec<(String, String)>>,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// A new empty folder.
    ///
    /// # Panics
    /// When there is no temporary folder.
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
            gates: RefCell::default(),
            env: RefCell::default(),
        }
    }

    /// One in a folder that is not below /tmp, with this spec in `w.yaml`.
    ///
    /// # Panics
    /// When there is none.
    pub fn outside_tmp(spec: &str) -> Self {
        let (dir, _) = crate::trusted_folder();
        let place = Self { dir, gates: RefCell::default(), env: RefCell::default() };
        place.write("w.yaml", spec);
        place
    }

    /// A new folder with this spec in `w.yaml`.
    ///
    /// # Panics
    /// When there is no temporary folder.
    pub fn with(spec: &str) -> Self {
        let place = Self::new();
        place.write("w.yaml", spec);
        place
    }

    /// Sets variables for all commands to come.
    pub fn set_env(&self, env: impl IntoIterator<Item = (String, String)>) {
        self.env.borrow_mut().extend(env);
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the folder.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.join(name), content).expect("the file is written");
        self
    }

    /// Reads a file of the folder.
    ///
    /// # Panics
    /// When it cannot be read.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        let path = self.join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The lines of a file of the folder.
    ///
    /// # Panics
    /// When it cannot be read.
    #[track_caller]
    pub fn lines(&self, name: &str) -> Vec<String> {
        self.read(name).lines().map(str::to_owned).collect()
    }

    /// A file of job output, such as `wf1_j1_r1_a1.o`.
    ///
    /// # Panics
    /// When it cannot be read.
    #[track_caller]
    pub fn output(&self, name: &str) -> String {
        self.read(&format!("torc_output/job_stdio/job_{name}"))
    }

    /// The names of all files of job output, sorted.
    ///
    /// # Panics
    /// When there are none.
    #[track_caller]
    pub fn output_files(&self) -> Vec<String> {
        let folder = fs::read_dir(self.join("torc_output/job_stdio")).expect("jobs were run");
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry.expect("it is listed").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = folder.map(name).collect();
        names.sort();
        names
    }

    /// A `torc` command in this folder, with nothing of the environment that would steer it.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(torc());
        self.prepare(&mut command);
        command.args(args);
        command
    }

    /// Makes another command start as [`Self::command`] does.
    pub fn prepare(&self, command: &mut Command) {
        command
            .current_dir(self.path())
            .env_remove("TORC_OUTPUT_DIR")
            .env_remove("TORC_WORKFLOW_ID")
            .env_remove("TORC_JOB_ID")
            .env_remove("TORC_LOG")
            .env_remove("TORC_PLUGIN_PATH")
            .env("TORC_CONFIG", self.join("config.toml"))
            .env("XDG_DATA_HOME", self.join("data"))
            .env("XDG_STATE_HOME", self.join("state"))
            .envs(self.env.borrow().iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
    }

    /// Runs `torc` to its end.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    #[track_caller]
    pub fn torc(&self, args: &[&str]) -> Ended {
        Started::start(self.command(args)).wait()
    }

    /// Runs `torc` to its end with this text on its standard input.
    ///
    /// # Panics
    /// As [`Self::torc`].
    #[track_caller]
    pub fn torc_reading(&self, args: &[&str], text: &str) -> Ended {
        self.write("standard_input", text);
        let file = File::open(self.join("standard_input")).expect("it was just written");
        let mut command = self.command(args);
        command.stdin(file);
        Started::start(command).wait()
    }

    /// Runs `torc` in this folder as the user `nobody` of most systems, to its end. Only root can.
    ///
    /// # Panics
    /// As [`Self::torc`].
    #[track_caller]
    pub fn torc_of_another_user(&self, args: &[&str]) -> Ended {
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        // The program may lie where others cannot reach it.
        let program = self.join("torc");
        if !program.exists() {
            fs::copy(torc(), &program).expect("it is copied");
        }
        let mut command = Command::new("setpriv");
        self.prepare(&mut command);
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).args(args);
        Started::start(command).wait()
    }

    /// Runs `w.yaml` on two CPUs, with more options.
    ///
    /// # Panics
    /// As [`Self::torc`].
    #[track_caller]
    pub fn run(&self, options: &[&str]) -> Ended {
        self.start_run(options).wait()
    }

    /// Goes on with the latest workflow, on two CPUs.
    ///
    /// # Panics
    /// As [`Self::torc`].
    #[track_caller]
    pub fn restart(&self) -> Ended {
        self.torc(&["restart", "--num-cpus", "2", "--memory-gb", "4"])
    }

    /// Starts `torc` and leaves it running.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(&self, args: &[&str]) -> Started {
        Started::start(self.command(args))
    }

    /// Starts a server of this state directory that stays, and returns when it can be asked.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn serve(&self) -> Started {
        let command = self.command(&["serve", "--idle-exit", "0s"]);
        let mut server = Started::start_for(command, RUN_PATIENCE);
        server.wait_until_it_says("serving");
        server
    }

    /// Starts a run of `w.yaml` on two CPUs, or as the options say, and leaves it running.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start_run(&self, options: &[&str]) -> Started {
        let mut args = vec!["run", "w.yaml"];
        if !options.contains(&"--num-cpus") {
            args.extend(["--num-cpus", "2"]);
        }
        args.extend(["--memory-gb", "4"]);
        args.extend(options);
        self.start(&args)
    }

    /// What a command that must succeed prints with `--format json`.
    ///
    /// # Panics
    /// When it does not succeed.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        self.torc(&[args, &["--format", "json"]].concat()).expect(0).json()
    }

    /// `torc results --format json`: all attempts.
    ///
    /// # Panics
    /// When there are none to ask for.
    #[track_caller]
    pub fn results(&self) -> Vec<Value> {
        self.json(&["results"]).as_array().expect("a list").clone()
    }

    /// The attempts of one job.
    ///
    /// # Panics
    /// As [`Self::results`].
    #[track_caller]
    pub fn attempts(&self, job: &str) -> Vec<Value> {
        self.results().into_iter().filter(|attempt| attempt["job"] == job).collect()
    }

    /// Asserts the status of jobs, as `name status` lines in the order of the spec.
    ///
    /// # Panics
    /// When they are others.
    #[track_caller]
    pub fn expect_jobs(&self, expected: &str) {
        let jobs = self.json(&["jobs"]);
        let word = |value: &Value| value.as_str().expect("a string").to_owned();
        let line = |job: &Value| format!("{} {}", word(&job["name"]), word(&job["status"]));
        let found: Vec<String> = jobs.as_array().expect("a list").iter().map(line).collect();
        let expected: Vec<&str> = expected.lines().map(str::trim).collect();
        assert_eq!(found, expected);
    }

    /// Makes a fifo in the folder, for a job to write into, and opens its reading end.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn fifo(&self, name: &str) -> Fifo {
        Fifo::open(&self.make_fifo(name))
    }

    /// The same, for many jobs to write into. It has no end.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn fifo_for_many(&self, name: &str) -> Fifo {
        Fifo::open_for_many(&self.make_fifo(name))
    }

    /// Makes a gate: a fifo on which jobs wait with `read < name`, until it is opened for them.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn gate(&self, name: &str) {
        self.make_fifo(name);
    }

    /// Lets this many jobs through a gate.
    ///
    /// # Panics
    /// When there is no such gate.
    #[track_caller]
    pub fn open_gate(&self, name: &str, jobs: usize) {
        // Opened for both, it does not wait for a reader.
        let file = OpenOptions::new().read(true).write(true).open(self.join(name));
        let mut file = file.expect("the gate is there");
        file.write_all("\n".repeat(jobs).as_bytes()).expect("a pipe has room for that");
        self.gates.borrow_mut().push(file);
    }

    fn make_fifo(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        path
    }
}
