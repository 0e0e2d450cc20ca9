"""Solves y' = -rate y, y(0) = 1, up to t = 1 by Euler's method; exits with 42 when it diverges.

The method is stable only while rate * step < 2.
"""

import argparse
import math
import sys

DIVERGED = 42


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--step", type=float, required=True)
    parser.add_argument("--halvings", type=int, default=0)
    args = parser.parse_args()
    step = args.step / 2**args.halvings
    y = 1.0
    for count in range(round(1 / step)):
        y -= step * args.rate * y
        if abs(y) > 1.0:
            print(f"diverged after {count + 1} steps of {step}", file=sys.stderr)
            sys.exit(DIVERGED)
    print(f"y(1) = {y:.3e} with steps of {step}; exactly {math.exp(-args.rate):.3e}")


if __name__ == "__main__":
    main()
