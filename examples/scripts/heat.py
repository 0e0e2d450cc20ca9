"""Heat in an insulated plate, computed by ranks that each own some rows of it.

`prepare` writes one strip of rows, `launch` starts one rank per host of TORC_HOSTFILE and collects
what they computed, `rank` is such a rank, `report` checks and draws the result.

The ranks find each other through the launcher: each tells it the port it listens on and is told
everybody's. In every step a rank exchanges its outermost rows with its neighbours, over TCP.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys

SHARDS = 8
ROWS_PER_SHARD = 8
WIDTH = 64
# Below 0.25, or the explicit scheme is unstable.
DIFFUSION = 0.2
LOCAL = "127.0.0.1"
# Ranks that wait longer than this for one another have lost one.
PATIENCE_SECONDS = 60


class Line:
    """A connection that carries one JSON value a line."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input, self.output = connection.makefile("r"), connection.makefile("w")

    def send(self, value) -> None:
        self.output.write(json.dumps(value) + "\n")
        self.output.flush()

    def receive(self):
        line = self.input.readline()
        if not line:
            raise SystemExit("the other end is gone")
        return json.loads(line)


def listen() -> socket.socket:
    listener = socket.create_server((LOCAL, 0))
    listener.settimeout(PATIENCE_SECONDS)
    return listener


def strip_path(folder: pathlib.Path, shard: int) -> pathlib.Path:
    return folder / f"strip_{shard}.json"


def prepare(shard: int, folder: pathlib.Path) -> None:
    """Cold everywhere but in a hot square in the middle of the plate."""
    height = SHARDS * ROWS_PER_SHARD

    def start(row: int, column: int) -> float:
        down, right = row + 0.5 - height / 2, column + 0.5 - WIDTH / 2
        return 100.0 if abs(down) < height / 8 and abs(right) < WIDTH / 8 else 0.0

    first = shard * ROWS_PER_SHARD
    rows = [
        [start(row, column) for column in range(WIDTH)]
        for row in range(first, first + ROWS_PER_SHARD)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    strip_path(folder, shard).write_text(json.dumps(rows))
    print(f"strip {shard}: rows {first} to {first + ROWS_PER_SHARD - 1}")


def launch(steps: int, folder: pathlib.Path) -> None:
    hosts = pathlib.Path(os.environ["TORC_HOSTFILE"]).read_text().split()
    if SHARDS % len(hosts):
        raise SystemExit(f"{SHARDS} strips cannot be shared evenly by {len(hosts)} nodes")
    print(f"{len(hosts)} nodes: {os.environ['TORC_NODELIST']}", flush=True)
    with listen() as listener:
        # The nodes are pretended, so each rank is a process of this host. On a real cluster this
        # line would be mpirun's or srun's.
        ranks = [
            subprocess.Popen(
                [sys.executable, __file__, "rank", f"--rank={rank}", f"--ranks={len(hosts)}",
                 f"--host={host}", f"--launcher={listener.getsockname()[1]}",
                 f"--steps={steps}", f"--dir={folder}"]
            )
            for rank, host in enumerate(hosts)
        ]
        try:
            plate = collect(listener, len(hosts))
        except BaseException:
            for process in ranks:
                process.kill()
            raise
        codes = [process.wait() for process in ranks]
    if any(codes):
        raise SystemExit(f"the ranks ended with {codes}")
    (folder / "plate.json").write_text(json.dumps(plate))


def collect(listener: socket.socket, count: int) -> list[list[float]]:
    """Introduces the ranks to one another and waits for their rows."""
    lines, ports = {}, [0] * count
    for _ in range(count):
        line = Line(listener.accept()[0])
        rank, port = line.receive()
        lines[rank], ports[rank] = line, port
    for line in lines.values():
        line.send(ports)
    return [row for rank in range(count) for row in lines[rank].receive()]


def run_rank(args: argparse.Namespace) -> None:
    with listen() as listener:
        launcher = Line(socket.create_connection((LOCAL, args.launcher), PATIENCE_SECONDS))
        launcher.send([args.rank, listener.getsockname()[1]])
        ports = launcher.receive()
        above = below = None
        if args.rank > 0:
            above = Line(socket.create_connection((LOCAL, ports[args.rank - 1]), PATIENCE_SECONDS))
        if args.rank + 1 < args.ranks:
            below = Line(listener.accept()[0])
    own = SHARDS // args.ranks
    rows = []
    for shard in range(args.rank * own, (args.rank + 1) * own):
        rows += json.loads(strip_path(args.dir, shard).read_text())
    print(f"rank {args.rank} on {args.host}: {len(rows)} rows, process {os.getpid()}", flush=True)
    for _ in range(args.steps):
        rows = step(rows, *exchange(rows, above, below))
    launcher.send(rows)


def exchange(rows, above, below):
    """The neighbours' nearest rows; this rank's own where the plate ends, which insulates it."""
    for neighbour, row in ((above, rows[0]), (below, rows[-1])):
        if neighbour:
            neighbour.send(row)
    return (
        above.receive() if above else rows[0],
        below.receive() if below else rows[-1],
    )


def step(rows, before, after):
    result = []
    padded = [before, *rows, after]
    for up, row, down in zip(padded, padded[1:], padded[2:]):
        left, right = row[:1] + row[:-1], row[1:] + row[-1:]
        result.append([
            here + DIFFUSION * (u + d + l + r - 4 * here)
            for here, u, d, l, r in zip(row, up, down, left, right)
        ])
    return result


def report(folder: pathlib.Path) -> None:
    strips = [json.loads(strip_path(folder, shard).read_text()) for shard in range(SHARDS)]
    before = sum(map(sum, (row for strip in strips for row in strip)))
    plate = json.loads((folder / "plate.json").read_text())
    after = sum(map(sum, plate))
    shades = " .:-=+*#%@"
    hottest = max(map(max, plate))
    for row in plate[::4]:
        print("".join(shades[round(value / hottest * (len(shades) - 1))] for value in row[::2]))
    print(f"heat before {before:.6f}, after {after:.6f}; the hottest point has {hottest:.2f}")
    if abs(before - after) > 1e-6 * before:
        raise SystemExit("heat was lost or made: the ranks did not exchange their rows rightly")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("prepare").add_argument("shard", type=int)
    verbs.add_parser("launch").add_argument("--steps", type=int, default=400)
    rank = verbs.add_parser("rank")
    for name in ("rank", "ranks", "launcher", "steps"):
        rank.add_argument(f"--{name}", type=int, required=True)
    rank.add_argument("--host", required=True)
    verbs.add_parser("report")
    for verb in verbs.choices.values():
        verb.add_argument("--dir", type=pathlib.Path, required=True)
    args = parser.parse_args()
    match args.verb:
        case "prepare":
            prepare(args.shard, args.dir)
        case "launch":
            launch(args.steps, args.dir)
        case "rank":
            run_rank(args)
        case "report":
            report(args.dir)


if __name__ == "__main__":
    main()
