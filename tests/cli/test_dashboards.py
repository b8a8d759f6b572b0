"""W&B (offline), TensorBoard and CSV of one training, of one that is resumed, and of one with two optimizers."""

import csv
import json
import math
import os
import shutil
from types import SimpleNamespace

import pytest
import yaml
from _event_files import of_tensorboard as events
from _event_files import records, values
from jsonargparse import Namespace

from pcgen.cli.dashboards import callbacks, loggers
from pcgen.cli.main import main

LOGGERS = """
  logger:
    - class_path: WandbLogger
      init_args: {log_model: all, tags: [mine]}
    - class_path: TensorBoardLogger
      init_args: {save_dir: .}
  callbacks:
    - class_path: Samples
      init_args: {num_samples: 1, num_objects: 1, every_n_epochs: 1}
    - class_path: Interpolations
      init_args: {num_pairs: 1, steps: 2, every_n_epochs: 1}
    - class_path: ModelCheckpoint
      init_args: {every_n_epochs: 1, save_top_k: -1}
"""
REST = """
data:
  class_path: Shapes
  init_args: {num_points: 32, train_size: 24, val_size: 8, test_size: 8, batch_size: 8, classes: [chair, table]}
trainer:
  accelerator: cpu
  max_epochs: 3
  log_every_n_steps: 2
  enable_model_summary: false
  enable_progress_bar: false
"""
VAE = """
model:
  class_path: VAE
  init_args:
    encoder: {class_path: PointNetEncoder, init_args: {widths: [8, 16]}}
    decoder: {class_path: MLPDecoder, init_args: {latent_dim: 4, num_points: 32, widths: [16]}}
"""
GAN = """
model:
  class_path: GAN
  init_args:
    generator: {class_path: MLPDecoder, init_args: {latent_dim: 4, num_points: 32, widths: [16]}}
    discriminator: {class_path: PointNetEncoder, init_args: {widths: [8, 16], head_widths: [8], batch_norm: false}}
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.001}}
"""
AXIS = "trainer/global_step"


# ── what was written ──────────────────────────────────────────────────────────────────────────────────────────────────


def of_csv(folder):
    """Values by name and step."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        name: [(int(row["step"]), float(row[name])) for row in rows if row[name]] for name in rows[0] if name != "step"
    }


def clouds_of_tensorboard(folder):
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator  # as its pages read them

    found = EventAccumulator(str(folder), size_guidance={"tensors": 0}, tensor_size_guidance={"mesh": 0}).Reload()
    return [event.step for event in found.Tensors("clouds/samples_VERTEX")]


def of_tensorboard(folder):
    found = events(folder)
    tags = found.Tags()
    scalars = {name: [(e.step, e.value) for e in found.Scalars(name)] for name in tags["scalars"]}
    images = {name: [e.step for e in found.Images(name)] for name in tags["images"]}
    return scalars, images, found


def of_wandb(folder):
    """The parts of the run, in the order of their beginning."""
    parts = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        part = SimpleNamespace(rows=[], config={}, summary={}, metrics={}, artifacts=[], run=None)
        for record in records(file):
            kind = record.WhichOneof("record_type")
            if kind == "history":
                part.rows.append(values(record.history.item))
            elif kind == "config":
                part.config |= values(record.config.update)
            elif kind == "summary":
                part.summary |= values(record.summary.update)
            elif kind == "metric":
                part.metrics[record.metric.name or record.metric.glob_name] = record.metric
            elif kind == "artifact":
                part.artifacts.append(record.artifact)
            elif kind == "run" and part.run is None:
                part.run = record.run
        parts.append(part)
    return parts


def scalars_and_images(rows):
    scalars, images = {}, {}
    for row in rows:
        for name, value in row.items():
            if name.endswith(":_type") and value.startswith("images"):
                images.setdefault(name.removesuffix(":_type"), []).append(row[AXIS])
            elif ":" not in name and not name.startswith("_") and name != AXIS:
                scalars.setdefault(name, []).append((row[AXIS], value))
    return scalars, images


def close(a, b):
    """Whether two curves are the same; TensorBoard keeps single precision."""
    return [step for step, _ in a] == [step for step, _ in b] and all(
        math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-9) for (_, x), (_, y) in zip(a, b, strict=True)
    )


# ── the trainings ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """Runs of the command line in one folder: a whole one, one that was killed and went on, and an adversarial one."""
    import wandb

    home = tmp_path_factory.mktemp("dashboards")
    (home / "vae.yaml").write_text("name: experiment\n" + VAE + REST + LOGGERS)
    (home / "gan.yaml").write_text("name: game\n" + GAN + REST + LOGGERS)

    def fit(config, folder, *words):
        os.environ.pop("PCGEN_RUN_FOLDER", None)
        assert main(["fit", "--config", config, "--folder", folder, *words]) == 0
        wandb.finish()

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr("sys.argv", ["pcgen", "fit", "--api-key", "hush"])
        for variable in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
            patch.setenv(variable, str(home / "home_of_wandb"))
        patch.setenv("WANDB_API_KEY", "0123456789" * 4)
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        wandb.teardown()  # a test before may have used it, and it reads its environment once
        fit("vae.yaml", "whole")
        # As if killed while the second epoch's checkpoint was written: all that was logged beyond the first is there.
        shutil.copytree(home / "whole", home / "parts", symlinks=True)
        for later in (home / "parts" / "checkpoints").glob("epoch=[12]*.ckpt"):
            later.unlink()
        with (home / "parts" / "metrics.csv").open("a") as file:
            file.write("3,0.7,0.")
        fit("vae.yaml", "parts")
        fit("gan.yaml", "game", "--trainer.max_epochs", "2")
    os.environ.pop("PCGEN_RUN_FOLDER", None)
    return home


@pytest.mark.parametrize("run", ["whole", "game"])
def test_all_get_the_same_scalars_and_figures_at_the_same_steps(trained_once, run):
    rows = of_csv(trained_once / run)
    scalars, images, _ = of_tensorboard(trained_once / run)
    (part,) = of_wandb(trained_once / run)
    wandb_scalars, wandb_images = scalars_and_images(part.rows)
    assert rows.keys() == scalars.keys() == wandb_scalars.keys()
    for name in rows:
        assert close(rows[name], scalars[name]), name
        assert close(rows[name], wandb_scalars[name]), name
    assert images == wandb_images
    assert images.keys() == {"figures/samples", "figures/interpolations"}


@pytest.mark.parametrize("run", ["whole", "parts", "game"])
def test_what_an_epoch_gives_stands_at_one_step(trained_once, run):
    """Three batches an epoch: averages, validation, figures and clouds of the n-th are at step 3 n − 1."""
    rows = of_csv(trained_once / run)
    expected = [2, 5, 8] if run != "game" else [2, 5]
    validated = next(name for name in rows if name.startswith("val/"))
    trained = next(name for name in rows if name.startswith("train/"))
    _, images, _ = of_tensorboard(trained_once / run)
    assert [step for step, _ in rows[validated]] == expected
    assert [step for step, _ in rows[trained]] == expected
    assert images["figures/samples"] == expected
    assert clouds_of_tensorboard(trained_once / run) == expected
    for part in of_wandb(trained_once / run):
        assert {row[AXIS] for row in part.rows} <= set(expected)
        counted = [row["_step"] for row in part.rows]
        assert counted == sorted(set(counted))


def test_a_run_that_went_on_is_one_run_in_every_dashboard(trained_once):
    assert of_csv(trained_once / "parts") == of_csv(trained_once / "whole")
    assert (trained_once / "parts" / "best.json").read_bytes() == (trained_once / "whole" / "best.json").read_bytes()
    scalars, images, _ = of_tensorboard(trained_once / "parts")
    whole_scalars, whole_images, _ = of_tensorboard(trained_once / "whole")
    assert scalars == whole_scalars
    assert images == whole_images


def test_a_run_that_went_on_is_one_wandb_run(trained_once):
    first, second = of_wandb(trained_once / "parts")
    (whole,) = of_wandb(trained_once / "whole")
    kept = (trained_once / "parts" / "wandb-run-id").read_text().strip()
    assert first.run.run_id == second.run.run_id == kept
    # Its rows are numbered on from the checkpoint, so the parts put together lose none.
    assert second.rows[0]["_step"] == max(row["_step"] for row in first.rows if row[AXIS] == 2) + 1
    seen, _ = scalars_and_images([row for row in first.rows if row[AXIS] == 2] + second.rows)
    expected, _ = scalars_and_images(whole.rows)
    assert seen == expected


def test_wandb_knows_group_kind_name_tags_and_project(trained_once):
    (part,) = of_wandb(trained_once / "whole")
    run = part.run
    assert (run.run_group, run.job_type, run.display_name, run.project) == ("experiment", "fit", "whole", "pcgen")
    assert list(run.tags) == ["mine"]


def test_every_logger_is_told_how_the_run_was_made(trained_once):
    (part,) = of_wandb(trained_once / "whole")
    config, stored = part.config, yaml.safe_load((trained_once / "whole" / "hparams.yaml").read_text())
    assert config["model"]["init_args"]["decoder"]["init_args"]["latent_dim"] == 4
    assert config["data"]["recipe"]["init_args"]["train_size"] == 24
    assert config["trainer"]["max_epochs"] == 3
    assert config["run"]["versions"].keys() == {"pcgen", "torch", "pytorch_lightning", "python"}
    assert config["run"]["command"] == "pcgen fit --api-key '…'"
    for key in ("model", "data", "trainer", "run"):
        assert stored[key] == config[key]
    _, _, found = of_tensorboard(trained_once / "whole")
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"model/init_args/decoder/init_args/latent_dim" in content
    assert b"run/versions/torch" in content
    assert b"hush" not in content
    assert "0123456789" * 4 not in (trained_once / "whole" / "hparams.yaml").read_text()
    assert "0123456789" * 4 not in json.dumps(config)


def test_wandb_keeps_the_best_so_far(trained_once):
    (part,) = of_wandb(trained_once / "whole")
    losses = [value for _, value in of_csv(trained_once / "whole")["val/loss"]]
    elbos = [value for _, value in of_csv(trained_once / "whole")["val/elbo"]]
    assert part.summary["val/loss"] == {"min": min(losses), "last": losses[-1]}
    assert part.summary["val/elbo"] == {"max": max(elbos), "last": elbos[-1]}
    best = json.loads((trained_once / "whole" / "best.json").read_text())
    assert best["val/loss"]["value"] == min(losses)
    assert part.metrics["val/loss"].step_metric == AXIS
    assert part.metrics["*"].step_metric == AXIS


def test_checkpoints_are_artifacts_with_aliases_and_metadata(trained_once):
    (part,) = of_wandb(trained_once / "whole")
    models = [artifact for artifact in part.artifacts if artifact.type == "model"]
    assert [json.loads(model.metadata)["original_filename"].split("-")[0] for model in models] == [
        "epoch=0", "epoch=1", "epoch=2"
    ]  # fmt: skip
    assert all("latest" in model.aliases for model in models)
    assert "best" in models[-1].aliases
    assert {entry.path for entry in models[0].manifest.contents} == {"model.ckpt"}


def test_the_files_lie_in_the_runs_folder(trained_once):
    names = {path.name.split(".")[0] for path in (trained_once / "whole").iterdir()}
    assert names >= {"events", "metrics", "hparams", "best", "wandb", "wandb-run-id", "checkpoints", "figures"}
    assert {path.name for path in trained_once.iterdir()} <= {
        "vae.yaml", "gan.yaml", "whole", "parts", "game", "home_of_wandb"
    }  # fmt: skip


# ── what is done to the config ────────────────────────────────────────────────────────────────────────────────────────


def of(path, **arguments):
    return Namespace(class_path=f"pytorch_lightning.loggers.{path}", init_args=Namespace(**arguments))


def test_without_a_word_on_loggers_there_is_csv(tmp_path):
    for nothing in (None, True, []):
        (csv_logger,) = loggers(nothing, tmp_path, name="x")
        assert csv_logger.class_path == "pcgen.loggers.ResumableCSVLogger"
        assert csv_logger.init_args.save_dir == str(tmp_path)


def test_lightnings_csv_gives_way_and_keeps_its_arguments(tmp_path):
    given = of("CSVLogger", save_dir="elsewhere", name="lightning_logs", version=None, prefix="p")
    (csv_logger,) = loggers(given, tmp_path, name="x")
    assert csv_logger.class_path == "pcgen.loggers.ResumableCSVLogger"
    assert dict(csv_logger.init_args) == {"save_dir": "elsewhere", "name": "", "version": "", "prefix": "p"}


def test_what_the_user_gives_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_JOB_TYPE", "night")
    given = of("WandbLogger", save_dir="s", name="n", project="p", id="i", group="g", tags=None, resume="must")
    _, logger = loggers(given, tmp_path, name="x", tags=["VAE"])
    assert dict(logger.init_args) == {
        "save_dir": "s", "name": "n", "project": "p", "id": "i", "group": "g", "tags": ["VAE"], "resume": "must"
    }  # fmt: skip
    again = of("TensorBoardLogger", save_dir=".", name="mine", version="v")
    _, logger = loggers(again, tmp_path, name="x")
    assert (logger.init_args.name, logger.init_args.version) == ("mine", "v")


def test_the_kept_id_is_taken_up(tmp_path):
    (tmp_path / "wandb-run-id").write_text("kept\n")
    _, logger = loggers(of("WandbLogger", id=None, resume=None), tmp_path, name="x")
    assert logger.init_args.id == "kept"
    assert "resume" not in logger.init_args  # the logger's own "allow" must not be undone by a null


def test_the_callback_is_added_once():
    (added,) = callbacks(None)
    assert callbacks([added]) == [added]


def test_a_secret_of_the_command_line_is_kept_from_the_metadata_of_wandb(tmp_path, monkeypatch):
    given = Namespace(class_path="pytorch_lightning.loggers.WandbLogger", init_args=Namespace())
    own = Namespace(class_path=given.class_path, init_args=Namespace(settings={"x_disable_stats": True}))
    monkeypatch.setattr("sys.argv", ["pcgen", "fit"])
    assert "settings" not in loggers(given, tmp_path, name="a")[1].init_args
    monkeypatch.setattr("sys.argv", ["pcgen", "fit", "--a.api_key=SEKRET"])
    assert loggers(given, tmp_path, name="a")[1].init_args.settings == {"x_disable_meta": True}
    settings = loggers(own, tmp_path, name="a")[1].init_args.settings
    assert settings == {"x_disable_stats": True, "x_disable_meta": True}


def test_wandb_without_a_key_is_one_sentence(tmp_path, monkeypatch, capsys):
    import wandb

    def refuse(**_):  # what `wandb.init` does without a key; nothing goes online here
        raise wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.")

    monkeypatch.setattr(wandb, "init", refuse)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(VAE + REST)
    assert main(["fit", "--config", "config.yaml", "--trainer.logger", "WandbLogger"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("pcgen: error: W&B: No API key configured")
    assert "WANDB_MODE=offline needs neither key nor network" in error
    assert not list(tmp_path.glob("runs/*/*"))  # nothing has been trained
