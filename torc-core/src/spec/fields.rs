//! What a spec can say: its objects, their fields, and what each field takes.
//!
//! The one list of them. The strict reader takes names and ranges from it, the JSON Schema is made of it, and
//! KDL, which has no lists and no maps of its own, is read and written by it. Knows no defaults and no rule that
//! is about more than one field.

/// An object of a spec.
#[derive(Debug)]
pub(crate) struct Object {
    /// What it is, as messages have it: `a job`.
    pub(crate) what: &'static str,
    pub(crate) fields: &'static [Field],
    /// Whether it may have fields that are not torc's own.
    pub(crate) is_open: bool,
}

/// A field of an object.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) takes: Takes,
    /// What it is for, in a line, with the unit and the default.
    pub(crate) about: &'static str,
    /// Whether a spec without it is wrong, whatever else it says.
    pub(crate) is_required: bool,
}

/// What a field takes. Null is an absent field in all.
#[derive(Debug)]
pub(crate) enum Takes {
    Text,
    /// True or false.
    Flag,
    /// A whole number, with the least and the greatest.
    Whole(i64, i64),
    Number,
    TextOrWhole,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A list of whole numbers, with the least and the greatest.
    Wholes(i64, i64),
    /// A map of texts.
    TextByName,
    /// A map of texts, numbers and booleans.
    LiteralByName,
    /// A map of parameters: each a literal or a list of them.
    ParameterByName,
    /// A map of objects.
    ByName(&'static Object),
    One(&'static Object),
    /// A list of objects.
    Many(&'static Object),
    TextOr(&'static Object),
    /// Text, or a map of anything.
    TextOrMap,
    /// Whatever JSON has.
    Anything,
}

impl Object {
    const fn of(what: &'static str, fields: &'static [Field]) -> Self {
        Self { what, fields, is_open: false }
    }

    const fn open(what: &'static str, fields: &'static [Field]) -> Self {
        Self { what, fields, is_open: true }
    }

    /// The field of a name.
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The names of all fields.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|field| field.name)
    }
}

const fn field(name: &'static str, takes: Takes, about: &'static str) -> Field {
    Field { name, takes, about, is_required: false }
}

const fn needed(name: &'static str, takes: Takes, about: &'static str) -> Field {
    Field { name, takes, about, is_required: true }
}

/// As many of something as a spec can ask for.
const MOST: i64 = u32::MAX as i64;

const COUNT: Takes = Takes::Whole(0, MOST);
const AT_LEAST_ONE: Takes = Takes::Whole(1, MOST);
const EXIT_CODE: Takes = Takes::Whole(0, 255);

/// The most allocations that one action may ask for: as many jobs as Slurm has at all, where a site does not
/// say otherwise (slurm.conf(5), MaxJobCount).
const MOST_ALLOCATIONS: i64 = 10_000;

/// The top level.
pub(crate) const SPEC: Object = Object::of(
    "a workflow spec",
    &[
        needed("name", Takes::Text, "The workflow's name."),
        field("user", Takes::Text, "Whose it is; by default $USER."),
        field("description", Takes::Text, "What it computes."),
        field("project", Takes::Text, "What it is for."),
        field("metadata", Takes::TextOrMap, "Kept with the workflow, not read by torc."),
        field(
            "parameters",
            Takes::ParameterByName,
            "Parameters for items that name them in `use_parameters`.",
        ),
        field(
            "parameters_file",
            Takes::Text,
            "A table for items with `use_parameters_file: true`.",
        ),
        field(
            "variables",
            Takes::LiteralByName,
            "`{name}` stands for the value in every string, before parameters are expanded.",
        ),
        field("env", Takes::TextByName, "Environment variables of every job; a job's own win."),
        needed("jobs", Takes::Many(&JOB), "The commands to run."),
        field("files", Takes::Many(&FILE), "Files that jobs read and write."),
        field("user_data", Takes::Many(&USER_DATA), "Data that jobs read and write."),
        field(
            "resource_requirements",
            Takes::Many(&REQUIREMENTS),
            "What jobs need, by name, for each of their nodes.",
        ),
        field("failure_handlers", Takes::Many(&HANDLER), "When failed jobs are tried again."),
        field("slurm_schedulers", Takes::Many(&SLURM_SCHEDULER), "Allocations that Slurm gives."),
        field(
            "slurm_defaults",
            Takes::LiteralByName,
            "Long options of sbatch for every Slurm scheduler; its own values win.",
        ),
        field("schedulers", Takes::Many(&SCHEDULER), "Allocations of others than Slurm."),
        field("actions", Takes::Many(&ACTION), "What happens at certain moments."),
        field("execution_config", Takes::One(&EXECUTION), "How jobs are executed."),
        field("resource_monitor", Takes::One(&MONITOR), "What is sampled of jobs and nodes."),
        field(
            "jobs_sort_method",
            Takes::Word(&["gpus_runtime_memory", "gpus_memory_runtime", "none"]),
            "Which jobs of the same priority come first; by default gpus_runtime_memory.",
        ),
        field("use_pending_failed", Takes::Flag, "Failed jobs wait for a decision."),
        field("enable_ro_crate", Takes::Flag, "Write an RO-Crate."),
        field("dynamic_jobs", Takes::One(&DYNAMIC_JOBS), "Jobs that add jobs."),
        field("access_groups", Takes::Anything, "No effect: torc's server is one user's."),
        field(
            "compute_node_expiration_buffer_seconds",
            Takes::Whole(0, i64::MAX),
            "Ignored: see `sigkill_headroom_seconds` of `execution_config`.",
        ),
        field("slurm_config", Takes::Anything, "An error: it is `execution_config` now."),
        field(
            "compute_node_wait_for_new_jobs_seconds",
            COUNT,
            "An idle worker that nothing could ever run on leaves after so many seconds; by default 90.",
        ),
        field(
            "compute_node_ignore_workflow_completion",
            Takes::Flag,
            "Workers stay until their allocations end, also when all jobs have ended.",
        ),
        field(
            "compute_node_wait_for_healthy_database_minutes",
            COUNT,
            "How many minutes a worker without its server keeps trying; by default 20.",
        ),
        field("plugins", Takes::Many(&PLUGIN), "Settings of plugins."),
    ],
);

/// How an item stands for many: the same for jobs, files and user data.
macro_rules! with_parameters {
    ($($field:expr),* $(,)?) => {
        &[
            $($field,)*
            field("parameters", Takes::ParameterByName, "Its own parameters."),
            field(
                "parameter_mode",
                Takes::Word(&["product", "zip"]),
                "How they combine; by default product.",
            ),
            field("use_parameters", Takes::Texts, "The workflow's parameters that it takes."),
            field("parameters_file", Takes::Text, "A table of its own: .csv, .json or .jsonl."),
            field("use_parameters_file", Takes::Flag, "It takes the workflow's table."),
        ]
    };
}

pub(crate) const JOB: Object = Object::of(
    "a job",
    with_parameters![
        needed("name", Takes::Text, "Its name, unique after expansion."),
        needed("command", Takes::Text, "What is run, by bash -c."),
        field("invocation_script", Takes::Text, "Put before the command."),
        field("env", Takes::TextByName, "Environment variables; they win over the workflow's."),
        field(
            "priority",
            Takes::Whole(i32::MIN as i64, i32::MAX as i64),
            "Higher starts first; by default 0.",
        ),
        field("labels", Takes::Texts, "It runs only where all of them are."),
        field("resource_requirements", Takes::Text, "What it needs; by default 1 CPU."),
        field("failure_handler", Takes::Text, "What happens when it fails."),
        field("scheduler", Takes::Text, "Only allocations of this scheduler run it."),
        field(
            "cancel_on_blocking_job_failure",
            Takes::Flag,
            "It is canceled when a job that it depends on does not complete; by default true.",
        ),
        field("depends_on", Takes::Texts, "Jobs that must end first."),
        field("depends_on_regexes", Takes::Texts, "The same, by patterns of names."),
        field("input_files", Takes::Texts, "Files that it reads."),
        field("output_files", Takes::Texts, "Files that it writes."),
        field("input_user_data", Takes::Texts, "User data that it reads."),
        field("output_user_data", Takes::Texts, "User data that it writes."),
        field("input_files_regexes", Takes::Texts, "Files that it reads, by patterns of names."),
        field("output_files_regexes", Takes::Texts, "Files that it writes, by patterns of names."),
        field("input_file_regexes", Takes::Texts, "The same as `input_files_regexes`."),
        field("output_file_regexes", Takes::Texts, "The same as `output_files_regexes`."),
        field("input_user_data_regexes", Takes::Texts, "User data that it reads, by patterns."),
        field("output_user_data_regexes", Takes::Texts, "User data that it writes, by patterns."),
        field("stdio", Takes::One(&STDIO), "Where its output goes."),
        field("supports_termination", Takes::Anything, "Ignored: every job can be ended."),
    ],
);

pub(crate) const FILE: Object = Object::of(
    "a file",
    with_parameters![
        needed("name", Takes::Text, "By which jobs name it."),
        needed("path", Takes::Text, "Absolute, or relative to the folder that torc starts in."),
        field("st_mtime", Takes::Number, "Accepted, in seconds; torc looks at the file itself."),
        field("identifier", Takes::Text, "Accepted, not read."),
    ],
);

pub(crate) const USER_DATA: Object = Object::of(
    "user data",
    with_parameters![
        needed("name", Takes::Text, "By which jobs name it."),
        field("data", Takes::Anything, "The value."),
        field(
            "is_ephemeral",
            Takes::Flag,
            "It has its first value again when the jobs that write it run again."
        ),
    ],
);

pub(crate) const REQUIREMENTS: Object = Object::of(
    "a resource requirement",
    &[
        needed("name", Takes::Text, "By which jobs name it; `default` is reserved."),
        field("num_cpus", AT_LEAST_ONE, "CPUs on each node; by default 1."),
        field("num_gpus", COUNT, "GPUs on each node; by default 0."),
        field("num_nodes", AT_LEAST_ONE, "Nodes; more than 1: whole ones, all at once."),
        field(
            "memory",
            Takes::TextOrWhole,
            "On each node: an integer with k, m, g or t (units of 1024); a bare one is bytes.",
        ),
        field("runtime", Takes::Text, "An ISO 8601 duration; by default PT1H."),
        field("ntasks_per_node", AT_LEAST_ONE, "Ranks on each node; by default 1."),
        field("mpi", Takes::Text, "`srun --mpi=`."),
        field("cpu_bind", Takes::Text, "`srun --cpu-bind=`."),
    ],
);

pub(crate) const HANDLER: Object = Object::of(
    "a failure handler",
    &[
        needed("name", Takes::Text, "By which jobs name it."),
        needed("rules", Takes::Many(&RULE), "The first that is for the exit code counts."),
    ],
);

pub(crate) const RULE: Object = Object::of(
    "a rule of a failure handler",
    &[
        field("exit_codes", Takes::Wholes(0, 255), "The exit codes that it is for."),
        field("match_all_exit_codes", Takes::Flag, "It is for every failure."),
        field("recovery_script", Takes::Text, "Run to its end before the job is tried again."),
        field("max_retries", COUNT, "Retries after the first attempt; by default 3."),
    ],
);

pub(crate) const SLURM_SCHEDULER: Object = Object::of(
    "a Slurm scheduler",
    &[
        needed("name", Takes::Text, "By which jobs and actions name it."),
        field("account", Takes::Text, "Who is charged; needed here or in `slurm_defaults`."),
        field("nodes", AT_LEAST_ONE, "Nodes of each allocation; by default 1."),
        field("walltime", Takes::Text, "HH:MM:SS or D-HH:MM:SS; by default 01:00:00."),
        field("partition", Takes::Text, "Where its nodes are; several with commas."),
        field("qos", Takes::Text, "Its quality of service."),
        field("mem", Takes::TextOrWhole, "Memory of each node, in MiB unless it has a unit."),
        field("gres", Takes::Text, "What else each node must have: `gpu:2`."),
        field("tmp", Takes::TextOrWhole, "Disk space of each node, in MiB unless it has a unit."),
        field("ntasks_per_node", AT_LEAST_ONE, "Tasks that each node must have room for."),
        field("extra", Takes::Text, "More options of sbatch, split as a shell does."),
        field("serialize_allocations", Takes::Flag, "Its allocations run one after another."),
        field("labels", Takes::Texts, "Labels of its nodes."),
        field("exclusive", Takes::Flag, "Whole nodes; by default true."),
    ],
);

pub(crate) const SCHEDULER: Object = Object::open(
    "a scheduler",
    &[
        needed("name", Takes::Text, "By which jobs and actions name it."),
        needed("type", Takes::Text, "`local`, or the name of the plugin that gives them."),
        field("nodes", AT_LEAST_ONE, "Nodes of each allocation; by default 1."),
        field("walltime", Takes::Text, "HH:MM:SS or D-HH:MM:SS; by default 01:00:00."),
        field("labels", Takes::Texts, "Labels of its nodes."),
        field("serialize_allocations", Takes::Flag, "Its allocations run one after another."),
    ],
);

pub(crate) const PLUGIN: Object = Object::open(
    "a plugin",
    &[needed("name", Takes::Text, "The plugin that the settings are for; never a path.")],
);

pub(crate) const ACTION: Object = Object::of(
    "an action",
    &[
        needed(
            "trigger_type",
            Takes::Word(&[
                "on_workflow_start",
                "on_workflow_complete",
                "on_worker_start",
                "on_worker_complete",
                "on_jobs_ready",
                "on_jobs_complete",
            ]),
            "The moment.",
        ),
        needed("action_type", Takes::Word(&["run_commands", "schedule_nodes"]), "What happens."),
        field("jobs", Takes::Texts, "Of which jobs."),
        field("job_name_regexes", Takes::Texts, "The same, by patterns of names."),
        field("commands", Takes::Texts, "Run by bash -c, in order, up to the first that fails."),
        field("scheduler", Takes::Text, "Of which scheduler allocations are asked for."),
        field("scheduler_type", Takes::Text, "The scheduler's type: `slurm`, or a plugin's name."),
        field("num_allocations", Takes::Whole(1, MOST_ALLOCATIONS), "How many; by default 1."),
        field("start_one_worker_per_node", Takes::Flag, "Always so in mode direct."),
        field("max_parallel_jobs", AT_LEAST_ONE, "Mode direct: jobs at once on each node."),
        field("persistent", Takes::Flag, "Once for each worker instead of once a run."),
    ],
);

pub(crate) const EXECUTION: Object = Object::of(
    "`execution_config`",
    &[
        field(
            "mode",
            Takes::Text,
            "What runs jobs on nodes: direct, slurm, auto, or a plugin's name; by default auto.",
        ),
        field("sigkill_headroom_seconds", COUNT, "Before an allocation's end; by default 60."),
        field("timeout_exit_code", EXIT_CODE, "The code of a job out of time; by default 152."),
        field("staggered_start", Takes::Flag, "Workers come one after the other; by default true."),
        field("stdio", Takes::One(&STDIO), "Where jobs' output goes."),
        field("limit_resources", Takes::Flag, "Mode direct: memory is enforced; by default true."),
        field(
            "termination_signal",
            Takes::TextOrWhole,
            "Mode direct: what asks a job to end; by default SIGTERM.",
        ),
        field("sigterm_lead_seconds", COUNT, "Mode direct: from it to SIGKILL; by default 30."),
        field(
            "oom_exit_code",
            EXIT_CODE,
            "Mode direct: the code of a job out of memory; by default 137.",
        ),
        field("srun_mpi", Takes::Text, "Mode direct: --mpi= of the srun that starts workers."),
        field("release_idle_nodes", Takes::Flag, "Mode direct: idle nodes are given back."),
        field(
            "srun_termination_signal",
            Takes::Text,
            "Mode slurm: what asks a job to end, and when; by default TERM@120.",
        ),
        field("enable_cpu_bind", Takes::Flag, "Mode slurm: Slurm binds jobs to CPUs."),
        field("job_stdio_overrides", Takes::ByName(&STDIO), "Where the output of some jobs goes."),
        field("launcher", Takes::TextOr(&LAUNCHER), "What starts the command of each job."),
        field("placer", Takes::Text, "pack, spread, or a plugin's name; by default pack."),
        field("enforce_runtime", Takes::Flag, "A job that exceeds its runtime is ended."),
        field("max_parallel_steps", AT_LEAST_ONE, "Jobs at once in an allocation."),
    ],
);

pub(crate) const STDIO: Object = Object::of(
    "`stdio`",
    &[
        field(
            "mode",
            Takes::Word(&["separate", "combined", "no_stdout", "no_stderr", "none"]),
            "Which files; by default separate.",
        ),
        field("delete_on_success", Takes::Flag, "They go when the job exits with 0."),
    ],
);

pub(crate) const LAUNCHER: Object = Object::of(
    "a launcher",
    &[needed("argv", Takes::Texts, "The words to execute, with `{command}` among them.")],
);

pub(crate) const DYNAMIC_JOBS: Object = Object::of(
    "`dynamic_jobs`",
    &[needed(
        "max_iterations",
        AT_LEAST_ONE,
        "How many additions of jobs may lead to one another.",
    )],
);

pub(crate) const MONITOR: Object = Object::open(
    "`resource_monitor`",
    &[
        field("sample_interval_seconds", AT_LEAST_ONE, "By default 10."),
        field("jobs", Takes::One(&SAMPLING), "Of jobs."),
        field("compute_node", Takes::One(&SAMPLING), "Of nodes."),
        field("generate_plots", Takes::Flag, "Draw them."),
        field("flush_interval_seconds", AT_LEAST_ONE, "By default 300."),
        field("enabled", Takes::Flag, "An older way to write it for jobs."),
        field("granularity", GRANULARITY, "An older way to write it for jobs."),
    ],
);

const GRANULARITY: Takes = Takes::Word(&["summary", "time_series"]);

pub(crate) const SAMPLING: Object = Object::open(
    "its part",
    &[
        field("enabled", Takes::Flag, "Whether samples are taken."),
        field("granularity", GRANULARITY, "What is kept of them."),
        field("cpu", Takes::Flag, "CPU time."),
        field("memory", Takes::Flag, "Memory."),
    ],
);
