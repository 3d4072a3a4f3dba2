"""The kill -9 rounds for as long as you like.

    ./dev python tests/fault/run_long.py --rounds 5000 --side-by-side 2 --folder /data

Prints a line for each series of 100 rounds and ends with 1 at the first that breaks a promise, with
the seed that led to it. `--folder` puts the journals on the disk you want to know about.
"""

import argparse
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from rounds import play
from test_kill import describe

IN_A_SERIES = 100


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--side-by-side", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the journals are; default: /tmp")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    series = max(1, given.rounds // IN_A_SERIES)
    began = time.monotonic()
    with ThreadPoolExecutor(given.side_by_side) as pool:
        played = pool.map(
            lambda number: play(min(given.rounds, IN_A_SERIES), seed + number, folder=given.folder),
            range(series),
        )
        for one, wrong in played:
            print(
                f"{time.monotonic() - began:7.0f} s  seed {one.seed}: {describe(one)}", flush=True
            )
            if wrong:
                print("\n".join(wrong))
                sys.exit(1)


if __name__ == "__main__":
    main()
