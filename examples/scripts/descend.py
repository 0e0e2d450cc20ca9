"""Gradient descent with momentum: `run` minimises one function, `best` compares results."""

import argparse
import json
import math
import pathlib

TOLERANCE = 1e-6
MOST_STEPS = 50_000


def bowl(x: float, y: float) -> tuple[float, float]:
    """The gradient of x^2 + 10 y^2, with its minimum at (0, 0)."""
    return 2 * x, 20 * y


def valley(x: float, y: float) -> tuple[float, float]:
    """The gradient of Rosenbrock's function (1 - x)^2 + 100 (y - x^2)^2, least at (1, 1)."""
    return -2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)


def run(args: argparse.Namespace) -> None:
    gradient = {"bowl": bowl, "valley": valley}[args.function]
    x, y, dx, dy = args.x, args.y, 0.0, 0.0
    steps, ended = 0, "slow"
    while steps < MOST_STEPS:
        gx, gy = gradient(x, y)
        length = math.hypot(gx, gy)
        if length < TOLERANCE or not length < 1e12:
            ended = "found" if length < TOLERANCE else "diverged"
            break
        dx, dy = args.momentum * dx - args.rate * gx, args.momentum * dy - args.rate * gy
        x, y, steps = x + dx, y + dy, steps + 1
    result = {"function": args.function, "rate": args.rate, "momentum": args.momentum,
              "start": [args.x, args.y], "ended": ended, "steps": steps}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result))
    print(result)


def best(files: list[pathlib.Path]) -> None:
    results = [json.loads(file.read_text()) for file in files]
    for function in sorted({result["function"] for result in results}):
        own = [result for result in results if result["function"] == function]
        found = sorted((r for r in own if r["ended"] == "found"), key=lambda r: r["steps"])
        print(f"{function}: {len(found)} of {len(own)} found the minimum; the fastest:")
        if not found:
            raise SystemExit(f"no run found the minimum of {function}")
        for result in found[:3]:
            print(f"  {result['steps']:6d} steps from {result['start']} with rate"
                  f" {result['rate']} and momentum {result['momentum']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("run")
    one.add_argument("--function", choices=["bowl", "valley"], required=True)
    one.add_argument("--rate", type=float, required=True)
    one.add_argument("--momentum", type=float, required=True)
    one.add_argument("--x", type=float, default=-1.0)
    one.add_argument("--y", type=float, default=1.5)
    one.add_argument("--out", type=pathlib.Path, required=True)
    verbs.add_parser("best").add_argument("files", type=pathlib.Path, nargs="+")
    args = parser.parse_args()
    if args.verb == "run":
        run(args)
    else:
        best(args.files)


if __name__ == "__main__":
    main()
