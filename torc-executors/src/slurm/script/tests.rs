//! What the scripts look like, what is refused, and that sbatch reads back what was meant.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use torc_core::traits::AllocationHandle;

use super::check as check_settings;
use super::*;

fn request(settings: Value) -> AllocationRequest {
    AllocationRequest {
        name: "wf1_cpu_nodes".to_owned(),
        nodes: 2,
        walltime: Some(Duration::from_secs(14_400)),
        settings,
        command: ["/opt/torc", "worker", "--state-dir", "/home/me/my work"]
            .map(str::to_owned)
            .to_vec(),
        working_dir: "/home/me/my work".to_owned(),
        output: "/home/me/my work/torc_output/a1.log".to_owned(),
        env: Vec::new(),
        umask: None,
        after: None,
    }
}

fn text(request: &AllocationRequest) -> String {
    render(request, "k-1").unwrap().text
}

/// The lines that a setting changes.
fn options(settings: Value) -> String {
    const ALWAYS: [&str; 10] = [
        "--job-name",
        "--nodes",
        "--time",
        "--chdir",
        "--output=\"/home",
        "--export=ALL",
        "--no-kill",
        "--no-requeue",
        "--comment=k-1",
        "--account=",
    ];
    let text = text(&request(settings));
    let options = text.lines().filter_map(|line| line.strip_prefix("#SBATCH "));
    let other = options.filter(|line| !ALWAYS.iter().any(|known| line.starts_with(known)));
    other.collect::<Vec<_>>().join(" ")
}

#[test]
fn every_field_of_a_scheduler_is_honoured() {
    let mut request = request(json!({
        "account": "science", "nodes": 2, "walltime": "04:00:00", "partition": "main", "qos": "high",
        "mem": "100G", "gres": "gpu:2", "tmp": 50_000, "ntasks_per_node": 4,
        "extra": "--constraint='a&b' -C c", "serialize_allocations": true, "labels": ["x"],
        "exclusive": true,
        "defaults": {"mail_type": "END,FAIL", "hold": true, "contiguous": false, "nice": 5, "qos": "low"},
    }));
    request.umask = Some(0o27);
    request.after = Some(AllocationHandle("17".to_owned()));
    insta::assert_snapshot!(text(&request), @r#"
    #!/bin/sh
    #SBATCH --job-name=wf1_cpu_nodes
    #SBATCH --account=science
    #SBATCH --partition=main
    #SBATCH --qos=high
    #SBATCH --mem=100G
    #SBATCH --gres=gpu:2
    #SBATCH --tmp=50000
    #SBATCH --ntasks-per-node=4
    #SBATCH --nodes=2
    #SBATCH --time=04:00:00
    #SBATCH --exclusive
    #SBATCH --chdir="/home/me/my work"
    #SBATCH --output="/home/me/my work/torc_output/a1.log"
    #SBATCH --export=ALL
    #SBATCH --mail-type=END,FAIL
    #SBATCH --hold
    #SBATCH --nice=5
    #SBATCH --constraint=a&b -C c
    #SBATCH --no-kill
    #SBATCH --no-requeue
    #SBATCH --comment=k-1
    #SBATCH --dependency=afterany:17

    umask 0027
    exec /opt/torc worker --state-dir '/home/me/my work'
    "#);
    let args = render(&request, "k-1").unwrap().args;
    assert_eq!(args, ["--parsable", "--comment=k-1", "--dependency=afterany:17"]);
}

#[test]
fn a_scheduler_that_says_little_gets_whole_nodes_with_all_their_memory() {
    let mut request = request(json!({"account": "science"}));
    request.walltime = None;
    insta::assert_snapshot!(text(&request), @r#"
    #!/bin/sh
    #SBATCH --job-name=wf1_cpu_nodes
    #SBATCH --account=science
    #SBATCH --nodes=2
    #SBATCH --exclusive
    #SBATCH --mem=0
    #SBATCH --chdir="/home/me/my work"
    #SBATCH --output="/home/me/my work/torc_output/a1.log"
    #SBATCH --export=ALL
    #SBATCH --no-kill
    #SBATCH --no-requeue
    #SBATCH --comment=k-1

    exec /opt/torc worker --state-dir '/home/me/my work'
    "#);
}

#[test]
fn a_users_own_comment_stays_before_the_mark() {
    let request = request(json!({"account": "science", "extra": "--comment='for me'"}));
    assert!(text(&request).contains("#SBATCH --comment=\"for me k-1\"\n"), "{}", text(&request));
}

#[test]
fn nodes_are_shared_where_the_user_chose_how() {
    let check = |settings: Value, expected: &str| {
        assert_eq!(options(settings.clone()), expected, "{settings}");
    };
    check(json!({"mem": "4G"}), "--mem=4G --exclusive");
    check(json!({"exclusive": false}), "");
    check(json!({"extra": "--exclusive=user"}), "--exclusive=user");
    check(json!({"extra": "-n 4"}), "-n 4");
    check(json!({"extra": "-s"}), "-s");
    check(json!({"extra": "--cpus-per-task 4"}), "--cpus-per-task 4");
    check(json!({"extra": "--mem-per-cpu=2G"}), "--mem-per-cpu=2G");
    check(json!({"extra": "--ntasks-per-node=2"}), "--exclusive --mem=0 --ntasks-per-node=2");
    check(json!({"extra": "--mem=4G"}), "--exclusive --mem=4G");
    check(json!({"extra": "--mem-per-gpu=4G"}), "--exclusive --mem-per-gpu=4G");
    check(json!({"defaults": {"exclusive": false}}), "");
    check(json!({"defaults": {"exclusive": "user"}}), "--exclusive=user");
    check(json!({"defaults": {"ntasks": 4}}), "--ntasks=4");
    check(json!({"defaults": {"oversubscribe": true}}), "--oversubscribe");
    check(json!({"exclusive": true, "defaults": {"exclusive": "user"}}), "--exclusive --mem=0");
    check(json!({"exclusive": false, "defaults": {"exclusive": true}}), "");
    check(json!({"exclusive": true, "extra": "--mem-per-cpu=2G"}), "--exclusive --mem-per-cpu=2G");
}

#[test]
fn a_schedulers_own_value_wins_over_a_default() {
    let check = |settings: Value, expected: &str| {
        assert_eq!(options(settings.clone()), expected, "{settings}");
    };
    let shared = |mut settings: Value| {
        settings["exclusive"] = json!(false);
        settings
    };
    check(shared(json!({"qos": "a", "defaults": {"qos": "b"}})), "--qos=a");
    check(shared(json!({"defaults": {"qos": "b", "requeue": true}})), "--qos=b --requeue");
    check(shared(json!({"defaults": {"ntasks_per_node": 2}})), "--ntasks-per-node=2");
    check(
        shared(json!({"ntasks_per_node": 4, "defaults": {"ntasks_per_node": 2}})),
        "--ntasks-per-node=4",
    );
    check(
        shared(json!({"defaults": {"output": "mine.%j", "error": "e"}})),
        "--output=mine.%j --error=e",
    );
}

#[test]
fn the_users_dependency_and_comment_are_kept() {
    let check = |settings: Value, after: Option<&str>, expected: &[&str]| {
        let mut request = request(settings.clone());
        request.after = after.map(|id| AllocationHandle(id.to_owned()));
        let script = render(&request, "k-1").unwrap();
        assert_eq!(script.args[1..], *expected, "{settings}");
        for option in expected.iter().filter(|option| !option.contains(' ')) {
            assert!(script.text.contains(&format!("#SBATCH {option}\n")), "{}", script.text);
        }
    };
    let comment = "--comment=k-1";
    check(json!({}), None, &[comment]);
    check(json!({"extra": "-d afterok:5"}), None, &[comment, "--dependency=afterok:5"]);
    check(
        json!({"extra": "-d afterok:5"}),
        Some("17"),
        &[comment, "--dependency=afterok:5,afterany:17"],
    );
    check(
        json!({"defaults": {"dependency": "singleton"}}),
        Some("17"),
        &[comment, "--dependency=singleton,afterany:17"],
    );
    check(json!({"extra": "-d a:1?b:2"}), None, &[comment, "--dependency=a:1?b:2"]);
    check(json!({"extra": "--comment='for me'"}), None, &["--comment=for me k-1"]);
    check(json!({"defaults": {"comment": "x"}}), None, &["--comment=x k-1"]);
}

#[test]
fn what_cannot_be_said_to_sbatch_is_refused() {
    let check = |settings: Value, expected: &str| {
        let error = render(&request(settings.clone()), "k-1").unwrap_err().to_string();
        assert_eq!(error, format!("the Slurm scheduler of `wf1_cpu_nodes`: {expected}"));
        let error = check_settings("cpu", &settings).unwrap_err().to_string();
        assert_eq!(error, format!("the Slurm scheduler of `cpu`: {expected}"));
    };
    check(
        json!({"extra": "--constraint='a"}),
        "`extra` has a quote that never closes: --constraint='a; close it, or put a backslash before it",
    );
    check(
        json!({"extra": "a"}),
        "`a` in `extra` belongs to no option, and sbatch would ignore all that follows; options begin with `-`, and values with blanks need quotes",
    );
    check(
        json!({"extra": "--wrap=x"}),
        "`--wrap` cannot be used with torc: the batch script is torc's",
    );
    check(
        json!({"extra": "--constraint='a\nb'"}),
        "the value of `extra` has a line break or another control character; remove it",
    );
    check(
        json!({"account": "a\n#SBATCH --uid=0"}),
        "the value of `account` has a line break or another control character; remove it",
    );
    check(
        json!({"gres": "x".repeat(5000)}),
        "the value of `gres` is longer than 4096 bytes; shorten it",
    );
    check(
        json!({"defaults": {"mail-type": "END", "mail_type": "ALL"}}),
        "`slurm_defaults` sets `mail-type` twice, in two spellings; keep one",
    );
    check(
        json!({"defaults": {"mail type": "END"}}),
        "`mail type` in `slurm_defaults` is no name of an option; write the long name, such as `constraint`",
    );
    check(
        json!({"defaults": {"mail-type": ["END"]}}),
        "`mail-type` in `slurm_defaults` must be text, a number or a boolean",
    );
    check(
        json!({"acount": "x"}),
        "its settings cannot be read: unknown field `acount`, expected one of `account`, `nodes`, `walltime`, `partition`, `qos`, `mem`, `gres`, `tmp`, `ntasks_per_node`, `extra`, `serialize_allocations`, `labels`, `exclusive`, `defaults`",
    );
    check(
        json!({"walltime": "soon"}),
        "its settings cannot be read: `soon` is no walltime; write `HH:MM:SS` or `D-HH:MM:SS`",
    );
}

#[test]
fn settings_are_checked_as_all_allocations_of_a_scheduler_will_say_them() {
    let either = json!({"extra": "-d a:1?b:2"});
    assert_eq!(check_settings("cpu", &either), Ok(()));
    let mut serialized = either;
    serialized["serialize_allocations"] = true.into();
    let error = check_settings("cpu", &serialized).unwrap_err();
    assert_eq!(error.problem, SettingsProblem::EitherDependency("a:1?b:2".to_owned()));
    assert_eq!(
        check_settings("any\nname", &json!({"extra": "--nice=3 --comment='for me'"})),
        Ok(())
    );
}

#[test]
fn what_a_request_cannot_say_is_refused() {
    let check = |change: fn(&mut AllocationRequest), key: &str, expected: &SettingsProblem| {
        let mut request = request(json!({}));
        change(&mut request);
        assert_eq!(render(&request, key).unwrap_err().problem, *expected);
    };
    check(|_| {}, "a b", &SettingsProblem::BadKey("a b".to_owned()));
    check(|_| {}, "", &SettingsProblem::BadKey(String::new()));
    check(|request| request.command.clear(), "k", &SettingsProblem::NoCommand);
    check(|request| request.command.push("\0".to_owned()), "k", &SettingsProblem::ZeroByte);
    check(
        |request| request.working_dir = "/a\nb".to_owned(),
        "k",
        &SettingsProblem::ControlCharacter("chdir".to_owned()),
    );
    check(
        |request| {
            request.settings = json!({"extra": "-d a:1?b:2"});
            request.after = Some(AllocationHandle("17".to_owned()));
        },
        "k",
        &SettingsProblem::EitherDependency("a:1?b:2".to_owned()),
    );
}

#[test]
fn file_names_are_no_patterns() {
    let check = |path: &str, expected: &str| assert_eq!(file_name_pattern(path), expected);
    check("/a/b.log", "/a/b.log");
    check("/a/%j.log", "/a/%%j.log");
    check(r"/a\b/%j.log", r"/a\\b/%j.log");
}

/// How sbatch takes the lines of a script apart, up to the first that is no comment; tried on Slurm 22.05.
fn as_sbatch_reads(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let lines = text.lines().take_while(|line| line.is_empty() || line.starts_with('#'));
    for line in lines.filter_map(|line| line.strip_prefix("#SBATCH")) {
        let (mut word, mut quote, mut is_escaped, mut is_word) =
            (String::new(), None, false, false);
        for c in line.chars() {
            match c {
                c if is_escaped => {
                    word.push(c);
                    is_escaped = false;
                }
                '\\' => (is_escaped, is_word) = (true, true),
                c if quote == Some(c) => quote = None,
                '"' | '\'' if quote.is_none() => (quote, is_word) = (Some(c), true),
                '#' if quote.is_none() => break,
                c if quote.is_none() && c.is_ascii_whitespace() => {
                    if std::mem::take(&mut is_word) {
                        words.push(std::mem::take(&mut word));
                    }
                }
                c => {
                    word.push(c);
                    is_word = true;
                }
            }
        }
        assert_eq!((quote, is_escaped), (None, false), "{line}");
        words.extend(is_word.then_some(word));
    }
    words
}

proptest! {
    #[test]
    fn sbatch_reads_back_what_was_meant(
        name in "\\PC{1,20}", account in "\\PC{0,20}", words in prop::collection::vec("\\PC{0,10}", 0..4),
        argument in "[^\0]{0,20}",
    ) {
        let extra: Vec<String> = words.iter().map(|word| format!("--x={word}")).collect();
        let joined = shlex::try_join(extra.iter().map(String::as_str)).unwrap();
        let mut request = request(json!({"account": account, "extra": joined}));
        request.name = name.clone();
        request.command = vec!["/bin/torc".to_owned(), argument.clone()];
        let text = text(&request);
        let read = as_sbatch_reads(&text);
        prop_assert_eq!(&read[0], &format!("--job-name={name}"));
        prop_assert_eq!(&read[1], &format!("--account={account}"));
        let found: Vec<&String> = read.iter().filter(|word| word.starts_with("--x=")).collect();
        prop_assert_eq!(found, extra.iter().collect::<Vec<_>>());
        let script = text.split_once("\nexec ").unwrap().1;
        prop_assert_eq!(shlex::split(script).unwrap(), request.command);
    }

    #[test]
    fn no_settings_make_it_panic(extra in "\\PC{0,40}", text in "[ -~\n]{0,40}", key in "\\PC{0,8}") {
        for extra in [extra, text] {
            let request = request(json!({"extra": extra, "defaults": {extra.as_str(): extra}}));
            let _ = render(&request, &key);
        }
    }
}
