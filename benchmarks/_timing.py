"""Timing shared by the benchmarks: medians, and memory at its peak."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable


def median_ms(call: Callable[[], object], *, seconds: float = 1.5, least: int = 3) -> float:
    """Give the median wall time of a call in milliseconds, after one call that is not counted.

    Args:
        call: What to time.
        seconds: How long to go on.
        least: How many calls at least.
    """
    call()
    times: list[float] = []
    while len(times) < least or sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def peak_growth_mib(setup: str, code: str) -> float:
    """Run `setup`, then `code`, in a fresh interpreter, and give the growth of its peak memory by `code` in MiB."""
    # The compiler's own peak lies before: Linux forgets it when 5 is written to clear_refs.
    script = f"""
from pathlib import Path
def kib(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])
{setup}
Path("/proc/self/clear_refs").write_text("5")
before = kib("VmRSS")
{code}
print("grown", kib("VmHWM") - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1024


def table(rows: list[tuple[str, ...]]) -> str:
    """Align rows of text in columns, the first to the left."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )
