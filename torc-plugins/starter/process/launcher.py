#!/usr/bin/env python3
"""A launcher for torc: the ranks of a step are started by a program that takes their number and a file of hosts, as
mpiexec does. Replace what `plan` writes down by what your site needs.

torc starts this program and says a line of JSON for each thing that it asks; the answer is a line with the same `op`.
"""

import json
import sys

ABOUT = {
    "name": "@NAME@",
    "version": "0.1.0",
    "abi": [1, 0],
    "interfaces": ["torc.launcher/1"],
    "info": {
        "description": "starts ranks by a program that takes -n and -f, as mpiexec does",
        "schema": {
            "type": "object",
            "properties": {
                "program": {"type": "string", "description": "the program; mpiexec unless it is said"}
            },
            "additionalProperties": False,
        },
    },
}


class Refused(Exception):
    """What is asked for cannot be done, however often it is asked for."""


class Unsupported(Exception):
    """There is no such method."""


class Launcher:
    def __init__(self, settings):
        self.program = settings.get("program", "mpiexec")
        if not isinstance(self.program, str):
            raise Refused("`program` has to be text")

    def plan(self, step, folder):
        each = step["layout"]["ntasks_per_node"]
        hosts = "".join(f"{node['name']}:{each}\n" for node in step["nodes"])
        # torc writes the files of a plan into this folder before it starts the program.
        argv = [self.program, "-n", str(each * len(step["nodes"])), "-f", f"{folder}/hosts"]
        return {"argv": argv + step["argv"], "files": [["hosts", hosts]]}


def answer(launcher, method, request):
    """What a request is answered with, and the launcher from now on."""
    if method == "describe":
        return ABOUT, launcher
    if method == "open":
        return None, Launcher(request["config"])
    if method == "plan" and launcher:
        return launcher.plan(request["step"], request["folder"]), launcher
    raise Unsupported


def main():
    launcher = None
    for line in sys.stdin.buffer:
        said = json.loads(line)
        reply = {"op": said["op"], "status": "ok"}
        try:
            reply["result"], launcher = answer(launcher, said["method"], said["request"])
        except Unsupported:
            reply["status"] = "unsupported"
        except (Refused, KeyError, TypeError) as error:
            reply.update(status="invalid", error=str(error) or repr(error))
        # Standard output is for torc alone; what else there is to say goes to standard error.
        print(json.dumps(reply), flush=True)


main()
