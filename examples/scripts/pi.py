"""Estimates pi: `throw` counts random points inside the quarter circle, `report` adds the counts up."""

import argparse
import math
import pathlib
import random


def throw(seed: int, count: int, out: pathlib.Path) -> None:
    draw = random.Random(seed).random
    hits = sum(draw() ** 2 + draw() ** 2 < 1.0 for _ in range(count))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f"{hits} {count}\n")
    print(f"seed {seed}: {hits} of {count} points hit")


def report(files: list[pathlib.Path]) -> None:
    pairs = [map(int, file.read_text().split()) for file in files]
    hits, count = map(sum, zip(*pairs))
    estimate = 4 * hits / count
    # The standard error of a share is sqrt(p (1 - p) / n).
    error = 4 * math.sqrt(hits / count * (1 - hits / count) / count)
    print(f"{len(files)} parts, {count} points: pi is about {estimate:.5f} +- {error:.5f}")
    if abs(estimate - math.pi) > 6 * error:
        raise SystemExit("that is too far from pi to be chance")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("throw")
    one.add_argument("--seed", type=int, required=True)
    one.add_argument("--count", type=int, default=1_000_000)
    one.add_argument("--out", type=pathlib.Path, required=True)
    verbs.add_parser("report").add_argument("files", type=pathlib.Path, nargs="+")
    args = parser.parse_args()
    if args.verb == "throw":
        throw(args.seed, args.count, args.out)
    else:
        report(args.files)


if __name__ == "__main__":
    main()
