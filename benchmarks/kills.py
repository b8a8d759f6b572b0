"""Kills trainings and `pcgen data prepare` at random moments, and looks at what is left.

    python benchmarks/kills.py --trainings 20 --kills 5 --prepare 100 --jobs 2 --json kills.json

Each training is `pcgen fit --config … --folder …`, killed (SIGKILL, the whole process group) a few times, started
again with the same command each time, and at last left alone. A moment is drawn uniformly: every fourth from the time
that the program takes to start, the others from the time that an uninterrupted run takes for what is left to train.
After every kill all checkpoints of the folder must be whole and the furthest no less far than before. At the end
weights, optimizers and schedules must be those of the uninterrupted run, to the last bit. Values that `metrics.csv`
lacks are counted: Lightning logs an epoch's means after its checkpoint, so a kill between the two costs that row.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from _kills_prepare import trials as prepare_trials

from pcgen.checkpoint import newest_whole, read_checkpoint

CLOUDS = {
    "class_path": "Shapes",
    "init_args": {
        "num_points": 64, "stored_points": 128, "train_size": 200, "val_size": 16, "test_size": 16, "batch_size": 8,
        "resample": True,
    },
}  # fmt: skip
ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1.0e-3}}
ENCODER = {"class_path": "PointNetEncoder", "init_args": {"widths": [32, 64]}}
CRITIC = {"class_path": "PointNetEncoder", "init_args": {"widths": [32, 64], "head_widths": [32], "batch_norm": False}}
DECODER = {"class_path": "MLPDecoder", "init_args": {"latent_dim": 8, "num_points": 64, "widths": [64]}}
HALVE = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2, "gamma": 0.5}}
# One optimizer, two that take turns with an average of weights, and chains that live on from step to step.
MODELS = {
    "VAE": {"encoder": ENCODER, "decoder": DECODER, "optimizer": ADAM, "lr_scheduler": HALVE},
    "GAN": {"generator": DECODER, "discriminator": CRITIC, "optimizer": ADAM, "lr_scheduler": HALVE},
    "GenerativePointNet": {
        "score": {"class_path": "PointNetScore", "init_args": {"widths": [16, 32], "head_widths": [16]}},
        "num_points": 64, "steps": 4, "step_size": 0.1, "score_scale": 64.0, "optimizer": ADAM,
        "start": {"class_path": "PersistentStart", "init_args": {"num_chains": 64}},
    },
}  # fmt: skip


def main() -> None:
    """Run the trials that were asked for and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, default=20, help="trainings that are killed and then finished")
    parser.add_argument("--kills", type=int, default=5, help="times each of them is killed")
    parser.add_argument(
        "--prepare", type=int, default=100, help="conversions by pcgen data prepare that are killed and then finished"
    )
    parser.add_argument("--epochs", type=int, default=12, help="of a training")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, help="write all figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = trainings(arguments, Path(folder))
        prepared = prepare_trials(arguments.prepare, Path(folder) / "prepare", arguments.seed)
    report(results, prepared)
    if arguments.json:
        arguments.json.write_text(json.dumps({"trainings": results, "prepare": prepared}, indent=1))
    if any(r["faults"] for r in [*results, *prepared]):
        raise SystemExit(1)


def trainings(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Do the trials of training."""
    whole = {}
    for name in MODELS:
        write_config(folder, name, arguments.epochs)
        run, began = folder / f"{name}-whole", time.monotonic()
        process = fit(folder, name, run)
        wait_for_training(process, run, time.time())
        start = time.monotonic() - began
        assert process.wait() == 0, f"{name} does not train: {log_of(folder, run.name)}"
        whole[name] = Whole(run, start, time.monotonic() - began - start)
        print(f"{name}: {start:.1f} s to start, {whole[name].train:.1f} s to train", flush=True)
    names = [list(MODELS)[i % len(MODELS)] for i in range(arguments.trainings)]

    def one(i: int) -> dict[str, Any]:
        return trial(folder, names[i], i, whole[names[i]], arguments.kills, random.Random(f"{arguments.seed} {i}"))

    with ThreadPoolExecutor(arguments.jobs) as pool:
        return list(pool.map(one, range(arguments.trainings)))


class Whole(NamedTuple):
    """An uninterrupted run: where it is, and the seconds that it took."""

    run: Path
    start: float
    train: float


def wait_for_training(process: subprocess.Popen[bytes], run: Path, since: float) -> None:
    """Wait until a process has written the settings of its training, which it does just before the first step."""
    config = run / "config.yaml"
    while process.poll() is None and not (config.exists() and config.stat().st_mtime >= since):
        time.sleep(0.01)


def write_config(folder: Path, name: str, epochs: int) -> None:
    """Write the config of one model's training: checkpoints after every 7 of 25 steps an epoch, and of each epoch."""
    keepers = [
        {"every_n_train_steps": 7, "save_last": True},
        {"every_n_epochs": 1, "save_top_k": 1, "filename": "epoch"},
    ]
    trainer = {
        "accelerator": "cpu", "max_epochs": epochs, "log_every_n_steps": 5, "enable_model_summary": False,
        "enable_progress_bar": False,
        "callbacks": [{"class_path": "ModelCheckpoint", "init_args": keeper} for keeper in keepers],
    }  # fmt: skip
    model = {"class_path": name, "init_args": MODELS[name]}
    content = {"name": name, "seed_everything": 1, "model": model, "data": CLOUDS, "trainer": trainer}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))


def fit(folder: Path, name: str, run: Path) -> subprocess.Popen[bytes]:
    """Start the training, in a process group of its own."""
    words = [Path(sys.executable).with_name("pcgen"), "fit", "--config", folder / f"{name}.yaml", "--folder", run]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (folder / f"{run.name}.log").open("ab") as log:
        return subprocess.Popen(
            list(map(str, words)), stdout=log, stderr=log, start_new_session=True, env=environment, cwd=folder
        )


def log_of(folder: Path, run: str) -> str:
    """Give the end of what a run said."""
    return (folder / f"{run}.log").read_text(errors="replace")[-1500:]


def trial(folder: Path, name: str, number: int, whole: Whole, kills: int, chance: random.Random) -> dict[str, Any]:
    """Kill one training several times, finish it, and compare it with the uninterrupted one."""
    run = folder / f"{name}-{number}"
    faults: list[str] = []
    steps: list[int] = []
    done = 0
    for i in range(kills):
        since = time.time()
        process = fit(folder, name, run)
        early = (number * kills + i) % 4 == 3
        if not early:
            wait_for_training(process, run, since)
        try:
            left = 1 - (steps[-1] if steps else 0) / furthest(whole.run)
            process.wait(chance.uniform(0, whole.start if early else whole.train * left))
            done += 1  # before it could be killed
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        faults += torn(run)
        steps.append(furthest(run))
        if len(steps) > 1 and steps[-1] < steps[-2]:
            faults.append(f"step {steps[-2]} was reached before, now it is {steps[-1]}")
    if status := fit(folder, name, run).wait():
        faults.append(f"the same command ended with {status}: {log_of(folder, run.name)}")
    else:
        faults += differences(whole.run, run)
    lost = len(set(scalars(whole.run)) - set(scalars(run))), len(set(scalars(run)) - set(scalars(whole.run)))
    result = {
        "model": name,
        "steps_after_kills": steps,
        "done_before": done,
        "values_lost_and_other": lost,
        "faults": faults,
    }
    print(
        f"{number:3d} {name:20s} steps after each kill {steps}: {'; '.join(faults) or 'same to the last bit'}, "
        f"{lost[0]} logged values lost, {lost[1]} others",
        flush=True,
    )
    shutil.rmtree(run)
    return result


def torn(run: Path) -> list[str]:
    """Name the files of a killed run that cannot be read."""
    faults = []
    for file in (run / "checkpoints").glob("[!.]*.ckpt"):
        try:
            read_checkpoint(file)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is a fault to report
            faults.append(f"{file.name}: {error}")
    config = run / "config.yaml"
    if config.exists() and "model" not in (yaml.safe_load(config.read_text()) or {}):
        faults.append("config.yaml is torn")
    return faults


def furthest(run: Path) -> int:
    """Give the step that the run would go on from."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a torn checkpoint is passed over with a warning
        file = newest_whole(run / "checkpoints") if run.exists() else None
    return 0 if file is None else int(read_checkpoint(file)["global_step"])


def differences(whole: Path, run: Path) -> list[str]:
    """Name what a finished run has otherwise than the uninterrupted one."""
    a, b = (read_checkpoint(folder / "checkpoints") for folder in (whole, run))  # the furthest
    for checkpoint in (a, b):  # not `epoch`: a keeper that had saved nothing since a kill does once more after the end
        checkpoint["epochs"] = checkpoint["loops"]["fit_loop"]["epoch_progress"]["total"]["ready"]
    return [
        f"{part} differs"
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epochs")
        if not same(a[part], b[part])
    ]


def same(a: Any, b: Any) -> bool:
    """Compare containers of tensors to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def scalars(run: Path) -> list[tuple[str, str, str]]:
    """Give all logged values as (step, name, value)."""
    with (run / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return sorted((row["step"], key, value) for row in rows for key, value in row.items() if key != "step" and value)


def report(results: list[dict[str, Any]], prepared: list[dict[str, Any]]) -> None:
    """Print the figures in the end."""
    starts = sum(len(r["steps_after_kills"]) for r in results)
    done = sum(r["done_before"] for r in results)
    early = sum(step == 0 for r in results for step in r["steps_after_kills"])
    lost = [sum(r["values_lost_and_other"][i] for r in results) for i in (0, 1)]
    print(
        f"{starts - done} kills of {len(results)} trainings ({early} without a checkpoint yet, {done} came too late): "
        f"{sum(not r['faults'] for r in results)} of {len(results)} ended as the uninterrupted one; "
        f"metrics.csv lacks {lost[0]} values and has {lost[1]} others"
    )
    kills = sum(r["kills"] for r in prepared)
    print(f"{kills} kills of {len(prepared)} data prepare: {sum(not r['faults'] for r in prepared)} without a fault")


if __name__ == "__main__":
    main()
