"""Converting meshes to HDF5: meshes a second with one and two processes, and peak memory with few and many meshes.

    python benchmarks/convert.py ../shared/data/off/ModelNet10 [--repeat 20] [--points 2048]

Each measurement runs in a process of its own, which loads Open3D anew; that time is in it. The many meshes are links
to the few.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MEASURE = """
import json, resource, sys, time
from pcgen.io import prepare
if __name__ == "__main__":
    source, out, points, method, jobs = sys.argv[1:]
    began = time.perf_counter()
    summary = prepare(source, out, num_points=int(points), method=method, jobs=int(jobs), progress=False)
    seconds = time.perf_counter() - began
    peak = {w: resource.getrusage(getattr(resource, w)).ru_maxrss / 1024 for w in ("RUSAGE_SELF", "RUSAGE_CHILDREN")}
    print(json.dumps({"meshes": summary.converted, "seconds": seconds, **peak}))
"""


def measure(source: Path, folder: Path, points: int, method: str, jobs: int) -> dict[str, float]:
    """Convert once in a fresh process."""
    script = folder / "measure.py"
    script.write_text(MEASURE)
    out = folder / f"{source.name}-{method}-{jobs}.h5"
    command = [sys.executable, str(script), str(source), str(out), str(points), method, str(jobs)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    out.unlink()
    return json.loads(run.stdout)


def repeat(source: Path, folder: Path, times: int) -> Path:
    """Make a tree with several links to each mesh."""
    tree = folder / "many"
    for path in sorted(source.rglob("*.off")):
        for i in range(times):
            link = tree / path.relative_to(source).with_name(f"{path.stem}_{i:03d}.off")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    return tree


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a tree of OFF meshes")
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--points", type=int, default=2048)
    arguments = parser.parse_args()
    print(f"{'method':8} {'meshes':>7} {'jobs':>4} {'seconds':>8} {'a second':>9} {'peak MB':>8} {'a worker':>9}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        many = repeat(arguments.source, folder, arguments.repeat)
        for source, method, jobs in (
            (arguments.source, "uniform", 1),
            (many, "uniform", 1),
            (many, "uniform", 2),
            (arguments.source, "poisson", 1),
            (arguments.source, "poisson", 2),
        ):
            r = measure(source, folder, arguments.points, method, jobs)
            worker = f"{r['RUSAGE_CHILDREN']:.0f}" if jobs > 1 else "–"
            speed = f"{r['seconds']:8.2f} {r['meshes'] / r['seconds']:9.0f}"
            print(f"{method:8} {r['meshes']:7} {jobs:4} {speed} {r['RUSAGE_SELF']:8.0f} {worker:>9}")


if __name__ == "__main__":
    main()
