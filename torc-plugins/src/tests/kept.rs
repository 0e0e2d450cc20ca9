//! Plugins that were built for an earlier version of the boundary: they load, and all their methods are called.
//!
//! What a version promised is kept beside this crate: its header, a plugin that has every method, and that plugin as
//! it was built then. Both the old file and the old source under today's compiler have to work.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use torc_core::ids::StepId;
use torc_core::time::Timestamp;
use torc_core::traits::{
    AllocationHandle, AllocationRequest, AllocationState, Executor, Outcome, Placer, Scheduler,
    Shapes, Snapshot, StepEvent, StepSignal, StepState, Waiting,
};

use super::*;
use crate::executor::PluginExecutor;
use crate::placer::PluginPlacer;
use crate::scheduler::PluginScheduler;
use crate::trust::digest;

/// Where the first version is kept.
fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kept/1.0")
}

/// The plugin that this file is, as today's torc finds it.
fn plugin(library: &Path) -> (TempDir, Plugin) {
    let (folder, trust) = folder();
    let path = folder.path().join("libtorc_kept.so");
    std::fs::copy(library, &path).expect("it is copied");
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
    let shelf = Shelf::new(vec![folder.path().to_path_buf()], trust, BTreeMap::default());
    let plugin = shelf.plugin("kept").expect("it is a plugin");
    (folder, plugin)
}

/// Notes for `tests/run` that this could not be done here, and why.
fn not_run_here(reason: &str) {
    let notes = std::env::var_os("TORC_SKIPS").unwrap_or_else(|| {
        panic!("cannot run here ({reason}), and TORC_SKIPS names no file to say so in")
    });
    let file = File::options().append(true).create(true).open(notes);
    let noted = file.and_then(|mut file| writeln!(file, "{reason}"));
    noted.expect("it is noted that this was left out");
}

#[test]
fn what_is_kept_is_as_it_was() {
    let sums = std::fs::read_to_string(kept().join("SHA256SUMS")).expect("it is kept");
    for line in sums.lines() {
        let (sum, file) = line.split_once("  ").expect("a sum and a file");
        let found = digest(&kept().join(file)).expect("it is kept");
        assert_eq!(found, sum, "{file} has been changed: a version that is out stays as it is");
    }
    assert_eq!(sums.lines().count(), 4, "the header, the source, the script, and what it built");
}

#[tokio::test]
async fn a_plugin_that_was_built_for_version_1_0_still_works() {
    if cfg!(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))) {
        return not_run_here("optional: the library of version 1.0 (it is for x86-64 with glibc)");
    }
    works_as_it_did(&kept().join("x86_64-linux-gnu/libtorc_kept.so")).await;
}

#[tokio::test]
async fn a_plugin_of_version_1_0_that_is_built_today_works() {
    let (folder, _) = folder();
    let library = folder.path().join("libtorc_kept.so");
    let built = Command::new(kept().join("build")).arg(&library).status();
    assert!(built.expect("sh and cc are installed").success(), "it is built");
    works_as_it_did(&library).await;
}

async fn works_as_it_did(library: &Path) {
    let (_folder, plugin) = plugin(library);
    let about = plugin.about();
    assert_eq!((about.abi, &*about.version), ((1, 0), "1.0"));
    let all = ["torc.launcher/1", "torc.executor/1", "torc.scheduler/1", "torc.placer/1"];
    assert_eq!(about.interfaces, all);
    assert_eq!(about.description.as_deref(), Some("as version 1.0 of the boundary has it"));
    assert_eq!(about.schema, Some(json!({"type": "object"})));
    launches(&plugin);
    executes(&plugin).await;
    schedules(&plugin).await;
    places(&plugin);
    for kind in Kind::ALL {
        let asked = plugin.ask(kind, &Map::new(), "fly", b"{}".to_vec(), PATIENCE);
        let words = asked.expect_err("nothing flies").to_string();
        assert_eq!(words, "plugin `kept`: fly: it does not know this method");
    }
}

fn launches(plugin: &Plugin) {
    let launcher = PluginLauncher::open(plugin, &Map::new()).expect("it opens");
    let plan = launcher.plan(&step(), "/scratch").expect("it can be launched");
    assert_eq!(plan.argv, ["true", "kept"]);
    assert_eq!(plan.env["KEPT"], "1.0");
    assert_eq!(plan.files, [("hosts".to_owned(), "n1\n".to_owned())]);
}

async fn executes(plugin: &Plugin) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    let events = Arc::new(move |event| telling.lock().expect("nobody panicked").push(event));
    let executor = PluginExecutor::open(plugin, &Map::new(), events, || Timestamp(1));
    let executor = executor.expect("it opens");
    let nodes = executor.inventory().await.expect("it answers");
    assert_eq!((&*nodes[0].name, nodes[0].cores.len(), nodes[0].memory), ("n1", 2, 1024));
    let id: StepId =
        serde_json::from_value(json!({"workflow": 1, "job": 1, "run": 1, "attempt": 1}))
            .expect("a step's name");
    executor.launch(torc_core::traits::Step { id, ..step() }).await.expect("it takes it over");
    let events = told.lock().expect("nobody panicked").clone();
    assert!(matches!(&events[0], StepEvent::Started { step, .. } if *step == id), "{events:?}");
    let ended = matches!(
        &events[1],
        StepEvent::Ended { outcome: Outcome::Exited { code: 3 }, usage, .. } if usage.cpu_ms == 5200
    );
    assert!(ended && events.len() == 2, "{events:?}");
    executor.signal(id, StepSignal::Cancel).await.expect("it takes it");
    let states = executor.reconcile(&[id]).await.expect("it answers");
    assert!(matches!(states[..], [StepState::Unknown]), "{states:?}");
    executor.shutdown(Duration::ZERO);
}

async fn schedules(plugin: &Plugin) {
    let scheduler = PluginScheduler::open(plugin, &Map::new()).expect("it opens");
    let request: AllocationRequest = serde_json::from_value(json!({
        "name": "torc-1-2", "nodes": 1, "walltime": 60_000, "settings": {}, "command": ["true"],
        "working_dir": "/", "output": "/dev/null", "env": [["A", "b"]], "umask": 18, "after": null
    }))
    .expect("a request");
    let shapes = scheduler.shapes(&request).await.expect("it answers");
    assert!(matches!(&shapes, Shapes::Known(known) if known[0].count == 1), "{shapes:?}");
    let handle = scheduler.submit(&request, "key").await.expect("it answers");
    assert_eq!(handle, AllocationHandle("A1".to_owned()));
    assert_eq!(scheduler.find("key").await.expect("it answers"), None);
    let states = scheduler.observe(std::slice::from_ref(&handle)).await.expect("it answers");
    assert!(matches!(&states[..], [AllocationState::Pending { .. }]), "{states:?}");
    scheduler.cancel(&handle).await.expect("it answers");
}

fn places(plugin: &Plugin) {
    let mut placer = PluginPlacer::open(plugin, &Map::new()).expect("it opens");
    placer.rebuild(&Snapshot {
        classes: Vec::new(),
        allocations: Vec::new(),
        node_states: Vec::new(),
        running: Vec::new(),
        waiting: Vec::new(),
    });
    let plan = placer.plan(Timestamp(1), 10);
    assert_eq!(plan.failure, None);
    assert_eq!(plan.starts.len(), 1);
    let waiting = placer.explain(plan.starts[0].job, Timestamp(1));
    assert!(matches!(waiting, Some(Waiting::Never(_))), "{waiting:?}");
}

#[test]
fn todays_header_is_the_kept_one_or_a_longer_one() {
    let read = |path: PathBuf| std::fs::read_to_string(path).expect("it is there");
    let before = read(kept().join("torc_plugin.h"));
    let now = read(Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/include/torc_plugin.h"));
    // Comments may get better; what is declared stays, and only more may follow.
    let declared = |header: &str| -> Vec<String> {
        let mut text = header.to_owned();
        while let Some(start) = text.find("/*") {
            let end = text[start..].find("*/").expect("it ends") + start + 2;
            text.replace_range(start..end, "");
        }
        let words = text.replace([';', ','], " ; ");
        words.split_whitespace().map(str::to_owned).collect()
    };
    let (before, now) = (declared(&before), declared(&now));
    let mut left = now.iter();
    for word in before.iter().filter(|word| !is_of_version(word)) {
        assert!(left.any(|one| one == word), "`{word}` is not where it was in version 1.0");
    }
}

/// The minor version grows.
fn is_of_version(word: &str) -> bool {
    word == "0u"
}
