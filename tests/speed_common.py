"""What the scripts that measure torc on the tests' Slurm cluster have in common."""

import datetime
import json
import os
import pathlib
import re
import shlex
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What colours a worker's log.
PLAIN = re.compile(r"\x1b\[[0-9;]*m")


class Failure(Exception):
    """Something did not run, so there is no figure."""


def run(argv: list, folder: pathlib.Path) -> str:
    done = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"{shlex.join(map(str, argv))} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def enter_cluster() -> None:
    """Brings the cluster up unless it is, and sets the environment by which Slurm's programs find it."""
    env = run([ROOT / "tests/slurm/up", "--env"], ROOT)
    for line in env.splitlines():
        name, _, value = line.removeprefix("export ").partition("=")
        os.environ[name] = "".join(shlex.split(value))
    os.environ["TORC_SLURM_SHORTEST_POLL"] = "1s"


def batch(script: str, folder: pathlib.Path) -> float:
    """Runs a batch script that prints when its work began and ended; the seconds between."""
    (folder / "bare.sh").write_text(script)
    run(["sbatch", "--wait", "--output=bare.out", folder / "bare.sh"], folder)
    started, ended = (folder / "bare.out").read_text().split()[-2:]
    return float(ended) - float(started)


def submitted(program: pathlib.Path, spec: str, jobs: int, folder: pathlib.Path) -> list[dict]:
    """Runs a workflow of so many jobs to its end; their attempts, each of which completed."""
    (folder / "w.yaml").write_text(spec)
    run([program, "submit", "w.yaml", "--wait"], folder)
    attempts = json.loads(run([program, "results", "--format", "json"], folder))
    run([program, "serve", "--stop"], folder)
    bad = [one for one in attempts if one["status"] != "completed"]
    if bad or len(attempts) != jobs:
        raise Failure(f"{len(attempts)} attempts, {len(bad)} did not complete: {bad[:1]}")
    return attempts


def span(attempts: list[dict]) -> float:
    """From the first decision to the last end, in seconds."""
    first = min(one["dispatched_at"] for one in attempts)
    return (max(one["ended_at"] for one in attempts) - first) / 1000


def moments(log: str, words: str) -> list[float]:
    """When a log of torc's said so, in milliseconds."""
    lines = [line for line in PLAIN.sub("", log).splitlines() if words in line]
    said = [datetime.datetime.fromisoformat(line.split()[0].replace("Z", "+00:00")) for line in lines]
    return sorted(one.timestamp() * 1000 for one in said)
