//! What a step finds around it: its words, variables, folder, files and nodes.
//!
//! Owns: these checks. Does not know: how steps end otherwise than well.

use std::fs;

use torc_core::resources::NodeInventory;
use torc_core::traits::{Outcome, Step, StepNode};

use super::ExecutorSite;
use super::bench::{Bench, with};
use crate::finding::{Finding, Verdict, ensure, same};
use crate::steps::ODD_WORDS;

const SUCCESS: Outcome = Outcome::Exited { code: 0 };

/// Runs a step that must succeed, and says what it wrote.
async fn output_of(bench: &Bench, step: Step) -> Result<String, Finding> {
    let job = step.id.job;
    same("the end of a step", &SUCCESS, &bench.run(step).await?)?;
    Ok(bench.read(&format!("out{job}")))
}

pub(super) async fn argv_arrives_whole(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "argv_arrives_whole", async |bench| {
        let mut step = bench.script(1, "for word do printf '[%s]\\n' \"$word\"; done")?;
        step.argv.push("sh".to_owned());
        step.argv.extend(ODD_WORDS.map(str::to_owned));
        let expected: String = ODD_WORDS.iter().map(|word| format!("[{word}]\n")).collect();
        same("the words of the command", &expected, &output_of(bench, step).await?)
    })
    .await
}

pub(super) async fn environment(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "environment", async |bench| {
        let values =
            ["plain", "two words", "it's \"quoted\"", "two\nlines", "$HOME `id`", "a=b", " ", ""];
        let names: Vec<String> =
            (0..values.len()).map(|index| format!("TORC_KIT_{index}")).collect();
        let words: String = names.iter().map(|name| format!(" \"${name}\"")).collect();
        let script = format!("printf '[%s]\\n'{words} \"$HOME\" \"${{TORC_KIT_UNSET-unset}}\"");
        let mut step = bench.script(1, &script)?;
        let own = names.into_iter().zip(values.map(str::to_owned));
        step.env = own.chain([("HOME".to_owned(), "/torc kit".to_owned())]).collect();
        let expected = values.iter().chain(&["/torc kit", "unset"]);
        let expected: String = expected.map(|value| format!("[{value}]\n")).collect();
        same("the values of the step's variables", &expected, &output_of(bench, step).await?)
    })
    .await
}

pub(super) async fn working_folder(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "working_folder", async |bench| {
        for (job, name) in (1..).zip(["folder", "it's a \"folder\" with $odd name"]) {
            bench.make_folder(name)?;
            let mut step = bench.script(job, "pwd -P; echo here > here")?;
            step.working_dir = bench.text_path(name)?.into();
            let expected = fs::canonicalize(bench.path(name)).unwrap_or_default();
            let expected = format!("{}\n", expected.display());
            same("the working folder", &expected, &output_of(bench, step).await?)?;
            let here = bench.read(&format!("{name}/here"));
            same("what a step wrote into its working folder", "here\n", here.as_str())?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn output_files(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "output_files", async |bench| {
        let step = bench.script(1, "echo to out; echo to err >&2; echo again")?;
        same("standard output", "to out\nagain\n", output_of(bench, step).await?.as_str())?;
        same("standard error", "to err\n", bench.read("err1").as_str())?;
        let mut step = bench.script(2, "echo to out; echo to err >&2")?;
        let odd = "it's 100%j of $it";
        bench.make_folder(odd)?;
        step.stdio.stdout = Some(bench.text_path(&format!("{odd}/%t.out"))?.into());
        output_of(bench, step).await?;
        let read = bench.read(&format!("{odd}/%t.out"));
        same("standard output in a file with an odd name", "to out\n", read.as_str())?;
        // A megabyte, which no pipe holds.
        let step = bench.script(3, "head -c 1000000 /dev/zero")?;
        let length = output_of(bench, step).await?.len();
        same("the length of much output", &1_000_000, &length)?;
        let mut step = bench.script(4, "echo nowhere && echo nowhere >&2")?;
        (step.stdio.stdout, step.stdio.stderr) = (None, None);
        same("the end of a step whose output is discarded", &SUCCESS, &bench.run(step).await?)
    })
    .await
}

pub(super) async fn shared_output_file(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "shared_output_file", async |bench| {
        let mut step = bench.script(1, "echo 1; echo 2 >&2; sh -c 'echo 3'; echo 4 >&2; echo 5")?;
        step.stdio.stderr = step.stdio.stdout.clone();
        let seen = output_of(bench, step).await?;
        same("both streams in one file", "1\n2\n3\n4\n5\n", seen.as_str())
    })
    .await
}

pub(super) async fn output_is_deleted_on_success(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "output_is_deleted_on_success", async |bench| {
        for (job, code) in [(1, 1), (2, 0)] {
            let mut step = bench.script(job, &format!("echo x; echo y >&2; exit {code}"))?;
            step.stdio.delete_on_success = true;
            let outcome = bench.run(step).await?;
            same("the end of a step", &Outcome::Exited { code }, &outcome)?;
            let files = [format!("out{job}"), format!("err{job}")];
            let are_there = files.map(|file| bench.path(&file).exists());
            let what = format!("whether output is there after exit code {code}");
            same(&what, &[code != 0; 2], &are_there)?;
        }
        Ok(())
    })
    .await
}

fn whole(node: &NodeInventory) -> StepNode {
    StepNode {
        name: node.name.clone(),
        cores: node.cores.clone(),
        gpus: node.gpus.clone(),
        memory: node.memory,
    }
}

pub(super) async fn gang(site: &ExecutorSite<'_>) -> Verdict {
    with(site, "gang", async |bench| {
        let Some(nodes) = bench.nodes.get(..2) else {
            return Err(Finding::NotShown("this executor has only one node".to_owned()));
        };
        let mut step = bench.script(1, "echo x > ran.$(uname -n).$$")?;
        step.nodes = nodes.iter().map(whole).collect();
        let cpus = nodes.iter().map(NodeInventory::cpus).min().unwrap_or(1);
        step.layout.cpus_per_node = cpus.max(1);
        same("the end of a step on two nodes", &SUCCESS, &bench.run(step).await?)?;
        let entries = fs::read_dir(bench.path("")).into_iter().flatten().flatten();
        let is_trace = |name: &str| name.starts_with("ran.");
        let ran = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_trace)).count();
        ensure(
            (1..=2).contains(&ran),
            "its command to run once, or once for each of two ranks",
            || format!("{ran} times"),
        )
    })
    .await
}
