"""The page that says which panel shows what, held against what tiny trainings of every model and callback log."""

import collections
import importlib.util
import re
import sys
import warnings

import pytest
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.seed import isolate_rng

import pcgen.callbacks
import pcgen.models
from pcgen.loggers import EVALUATED, GOAL_PREFIXES, GOALS, goal

# What a callback is tried with: a small model of the zoo, and arguments that make it quick.
TRIED = {
    "Confusion": ("PointNetClassifier", {}),
    "Decompositions": ("DeformingAutoencoder", {"num_shown": 1}),
    "Energies": ("GenerativePointNet", {"num_data": 2, "num_shown": 1}),
    "Interpolations": ("VAE", {"num_pairs": 1, "steps": 3}),
    "LatentArithmetic": ("VAE", {"start": "chair", "plus": "chair", "minus": "table", "num_rows": 1, "scales": [1.0]}),
    "LatentHistogram": ("VAE", {}),
    "LatentScores": ("VAE", {"num_data": 40, "split": "train", "estimator": "lasso"}),
    "LatentSpace": ("VAE", {}),
    "LatentUsage": ("VAE", {}),
    "LinearProbe": ("VAE", {"folds": 2, "costs": [1.0]}),
    "LossCurves": ("VAE", {}),
    "ReconstructionQuality": ("VAE", {"num_clouds": 4}),
    "Reconstructions": ("VAE", {"num_clouds": 1, "num_objects": 1}),
    "Restorations": ("Autoencoder-corruption", {"num_shown": 1}),
    "Samples": ("VAE", {"num_samples": 2, "num_objects": 1}),
    "SetScores": ("VAE", {"num_clouds": 4, "radius": 1.0}),
    "Trajectories": ("GenerativePointNet", {"num_samples": 1, "frames": 2, "film_frames": 2}),
    "Traversals": ("VAE", {"num_dims": 1, "steps": 2}),
}


class Memory(Logger):
    """Takes what TensorBoard's logger and W&B's take, and remembers the names."""

    name, version = "memory", "0"

    def __init__(self):
        super().__init__()
        self.seen = collections.defaultdict(set)
        self.experiment = self

    def log_metrics(self, metrics, step=None):
        self.seen["scalar"] |= set(metrics) - {"epoch"}

    def log_image(self, name, images, step=None):
        self.seen["figure"].add(name)

    def log_table(self, name, columns, data, step=None):
        self.seen["table"].add(name)

    def add_mesh(self, name, clouds, global_step=None):
        self.seen["clouds"].add(name)

    def _get_file_writer(self):
        return self

    def add_summary(self, summary, step):
        self.seen["animation"] |= {value.tag for value in summary.value}

    def log_hyperparams(self, *arguments, **named):
        pass


@pytest.fixture(scope="module")
def zoo(root):
    """The small models of the tests of the whole zoo."""
    spec = importlib.util.spec_from_file_location("_zoo_of_panels", root / "tests" / "test_zoo.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


def logged(zoo, folder, name, *callbacks):
    memory = Memory()
    with isolate_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seed_everything(0, verbose=False)
        trainer = Trainer(
            accelerator="cpu", default_root_dir=folder, logger=memory, callbacks=list(callbacks), max_epochs=1,
            limit_train_batches=1, limit_val_batches=1, num_sanity_val_steps=0, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1000,
        )  # fmt: skip
        trainer.fit(zoo.SMALL[name](), datamodule=zoo.data(name))
    return memory.seen


@pytest.fixture(scope="module")
def of_models(zoo, tmp_path_factory):
    """Names of scalars by model, of all the ways in which the zoo builds it."""
    found = collections.defaultdict(set)
    for name in zoo.SMALL:
        found[name.split("-")[0]] |= logged(zoo, tmp_path_factory.mktemp("models"), name)["scalar"]
    return found


@pytest.fixture(scope="module")
def page(root):
    return (root / "docs" / "dashboards.md").read_text(encoding="utf-8")


def table(page, head):
    """Rows of the table whose first column is called so: the first cell's names, and all names of each other cell."""
    lines = page[page.index(f"| {head} |") :].splitlines()
    heads = [cell.strip() for cell in lines[0].strip("|").split("|")]
    rows = {}
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        cells = [set(re.findall(r"`([^`]+)`", cell)) for cell in line.strip("|").split("|")]
        for name in cells[0]:
            rows[name] = dict(zip(heads[1:], cells[1:], strict=True))
    return rows


def test_the_scalars_of_every_model_are_on_the_page(page, of_models):
    rows = table(page, "Model")
    assert set(of_models) == set(pcgen.models.__all__)
    expected = {
        model: {name for names in row.values() for name in names} for model, row in rows.items()
    }  # fmt: skip
    assert expected == dict(of_models)


def test_every_callback_is_tried(page):
    silent = {"Dashboards", "NumericalHealth", "Preemption"}
    assert set(TRIED) == set(pcgen.callbacks.__all__) - silent
    assert set(TRIED) == set(table(page, "Callback"))


@pytest.mark.parametrize("name", TRIED)
def test_what_a_callback_logs_is_on_the_page(page, zoo, of_models, tmp_path, name):
    model, arguments = TRIED[name]
    seen = logged(zoo, tmp_path, model, getattr(pcgen.callbacks, name)(every_n_epochs=1, **arguments))
    seen["scalar"] -= of_models[model.split("-")[0]]
    row = table(page, "Callback")[name]
    kinds = {"scalars": "scalar", "figures": "figure", "clouds": "clouds", "animations": "animation", "tables": "table"}
    for head, kind in kinds.items():
        named = {word for word in row[head] if "<" not in word and word not in page_optional(page, name)}
        patterns = [re.sub(r"<[^>]+>", ".+", word) for word in row[head] if "<" in word]
        assert named <= seen[kind], head
        assert all(any(re.fullmatch(p, s) for p in patterns) for s in seen[kind] - named), (head, seen[kind] - named)


def page_optional(page, name):
    """Names that a callback logs only when it is asked to."""
    return set(re.findall(r"`([^`]+)`", "".join(re.findall(rf"^- `{name}`: (.*)$", page, flags=re.MULTILINE))))


def test_every_goal_is_of_something_that_is_on_the_page(page):
    names = {word.rpartition("/")[2] for word in re.findall(r"`([^`\n]+)`", page)}
    assert set(GOALS) <= names
    assert all(any(name.startswith(prefix) for name in names) for prefix in GOAL_PREFIXES)
    rows = table(page, "Better")
    said = {word for row in rows.values() for words in row.values() for word in words}
    assert said == set(GOALS) | {f"{prefix}<distance>" for prefix in GOAL_PREFIXES}
    for direction, row in rows.items():
        for word in (word for words in row.values() for word in words):
            assert goal(f"{EVALUATED[0]}/{word}") == direction
