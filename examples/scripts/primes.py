"""Counts primes: `count` sieves one block of numbers, `report` adds the counts up."""

import argparse
import math
import pathlib

BLOCK = 50_000
# The number of primes below 10^7, https://oeis.org/A006880.
PRIMES_BELOW_TEN_MILLION = 664_579


def primes_up_to(limit: int) -> list[int]:
    sieve = bytearray([1]) * (limit + 1)
    sieve[:2] = bytes(2)
    for number in range(2, math.isqrt(limit) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit + 1, number)))
    return [number for number in range(limit + 1) if sieve[number]]


def count(start: int, out: pathlib.Path) -> None:
    end = start + BLOCK
    block = bytearray([1]) * BLOCK
    for small in (0, 1):
        if start <= small < end:
            block[small - start] = 0
    for prime in primes_up_to(math.isqrt(end - 1)):
        first = max(prime * prime, -(-start // prime) * prime)
        block[first - start :: prime] = bytes(len(range(first, end, prime)))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f"{sum(block)}\n")
    print(f"{sum(block)} primes from {start} to {end - 1}")


def report(files: list[pathlib.Path]) -> None:
    total = sum(int(file.read_text()) for file in files)
    print(f"{len(files)} blocks: {total} primes below {len(files) * BLOCK}")
    if total != PRIMES_BELOW_TEN_MILLION:
        raise SystemExit(f"there should be {PRIMES_BELOW_TEN_MILLION}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("count")
    one.add_argument("start", type=int)
    one.add_argument("--out", type=pathlib.Path, required=True)
    verbs.add_parser("report").add_argument("files", type=pathlib.Path, nargs="+")
    args = parser.parse_args()
    if args.verb == "count":
        count(args.start, args.out)
    else:
        report(args.files)


if __name__ == "__main__":
    main()
