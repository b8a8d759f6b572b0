"""How long `pcgen --help` and `pcgen fit --help` take to answer, beside an import that nobody can avoid.

    python benchmarks/startup.py [--runs 7]

The two of a pair run in turns, so that a busy machine slows both alike; what counts is the ratio of the medians.
Bounds: 1.3 for `pcgen --help` against torch, 1.5 for `pcgen fit --help` against pytorch_lightning.
"""

import argparse
import statistics
import subprocess
import sys
import time

from _timing import table

PCGEN = "import sys; from pcgen.cli.main import main; sys.exit(main())"
PAIRS = [
    (["--help"], "torch", 1.3),
    (["fit", "--help"], "pytorch_lightning", 1.5),
]


def seconds(*arguments: str) -> float:
    """Give the wall time of one fresh process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Time both pairs and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="of each command (default 7)")
    runs = parser.parse_args().runs
    rows = [("command", "seconds", "import", "seconds", "ratio", "bound")]
    for words, module, bound in PAIRS:
        commands = ((PCGEN, *words), (f"import {module}",))
        for command in commands:  # not counted: files come from the disk
            seconds(*command)
        times = [[seconds(*command) for command in commands] for _ in range(runs)]
        ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        rows.append(
            (f"pcgen {' '.join(words)}", f"{ours:.2f}", module, f"{theirs:.2f}", f"{ours / theirs:.2f}", f"{bound}")
        )
    print(table(rows))


if __name__ == "__main__":
    main()
