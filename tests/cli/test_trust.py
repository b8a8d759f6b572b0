"""Configs from strangers: nothing that they name is imported unless it is trusted, and nothing in them grows."""

import os
import sys
import tracemalloc

import pytest
import torch
import yaml

from pcgen.cli import trust
from pcgen.cli.main import main
from pcgen.errors import ConfigurationError

EVIL = "evil_module_of_a_stranger"
MODEL = {"class_path": "VAE", "init_args": {"encoder": {"class_path": "PointNetEncoder"}}}
GOOD = {
    "model": MODEL,
    "data": {"class_path": "Shapes", "init_args": {"train_size": 8, "val_size": 4, "test_size": 4, "num_points": 16}},
    "trainer": {"max_epochs": 0, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False},
}


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported."""
    (tmp_path / f"{EVIL}.py").write_text(
        "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n"
        "from pytorch_lightning import Callback\n"
        "class Evil(Callback):\n    pass\n"
        "def function(*a, **k):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / f"{EVIL}.ran"
    sys.modules.pop(EVIL, None)


def put(where, value):
    config = yaml.safe_load(yaml.safe_dump(GOOD))
    inside = config
    for key in where[:-1]:
        inside = inside[key]
    inside[where[-1]] = value
    return config


CASES = [
    (("model",), f"{EVIL}.Evil"),
    (("model",), {"class_path": f"{EVIL}.Evil"}),
    (("model", "init_args", "encoder"), f"{EVIL}.Evil"),
    (("model", "init_args", "optimizer"), f"{EVIL}.function"),
    (("model", "init_args", "optimizer"), {"class_path": "os.system", "init_args": {"command": "touch ran"}}),
    (("model", "init_args", "optimizer"), {"class_path": "pcgen.cli.train.signal.raise_signal"}),
    (("trainer", "callbacks"), [f"{EVIL}.Evil"]),
    (("trainer", "callbacks"), [{"class_path": "LambdaCallback", "init_args": {"on_fit_start": f"{EVIL}.function"}}]),
    (("trainer", "logger"), {"class_path": f"{EVIL}.Evil"}),
    (("trainer", "plugins"), f"{EVIL}.Evil"),
    (("trainer", "strategy"), {"class_path": f"{EVIL}.Evil"}),
    (("data",), "part.yaml"),
]


@pytest.mark.parametrize(("where", "value"), CASES, ids=range(len(CASES)))
def test_what_a_stranger_names_is_not_imported(tmp_path, evil, capsys, where, value):
    (tmp_path / "part.yaml").write_text(f"class_path: {EVIL}.Evil\n")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(put(where, value)))
    assert main(["fit", "--config", "config.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "lies outside pcgen, and importing it would run code" in error
    assert "--trust" in error
    assert not evil.exists()
    assert EVIL not in sys.modules
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("words", [["--config", "config.yaml", "--trust"], [f"--trainer.callbacks+={EVIL}.Evil"]])
def test_what_the_user_trusts_is_built(tmp_path, evil, words):
    given = [{"class_path": f"{EVIL}.Evil"}] if "--trust" in words else []
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(put(("trainer", "callbacks"), given)))
    words = words if "--trust" in words else ["--config=config.yaml", *words]
    assert main(["fit", *words]) == 0
    assert evil.exists()


def test_the_name_of_a_config_is_no_word_of_trust(tmp_path, evil):
    (tmp_path / f"{EVIL}.yaml").write_text(yaml.safe_dump(put(("trainer", "callbacks"), [f"{EVIL}.Evil"])))
    file = f"{EVIL}.yaml"
    assert not trust.own_words(
        ["fit", "--config", file, f"--config={file}", "--data.init_args.path", file, "-c", "a.b"]
    )
    words = ["fit", "--model=my.Net", "--trainer.callbacks+={class_path: their.Callback, init_args: {a: 1}}"]
    assert trust.own_words(words) == ["my", "their"]
    assert main(["fit", "--config", f"{EVIL}.yaml"]) == 2
    assert not evil.exists()


def test_trust_is_an_option_of_every_training_verb_and_of_no_config(tmp_path, evil, capsys):
    for verb in ("fit", "validate", "test", "predict"):
        with pytest.raises(SystemExit) as ended:
            main([verb, "--help"])
        assert ended.value.code == 0
        assert "--trust" in capsys.readouterr().out
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(GOOD | {"trust": True}))
    assert main(["fit", "--config", "config.yaml"]) == 2
    assert "trust is not for a config: give --trust on the command line" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "word"), [("# " + "x" * 300_000, "at most 262144"), ("LAUGHS", "more than 50000")])
@pytest.mark.parametrize("inside", [False, True])
def test_parts_of_a_config_in_files_of_their_own_have_its_bounds(tmp_path, evil, capsys, text, word, inside):
    text = laughs(12) if text == "LAUGHS" else text
    (tmp_path / "encoder.yaml").write_text(f"class_path: PointNetEncoder\n{text}\n")
    place = ("model", "init_args", "encoder")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(put(place, "encoder.yaml") if inside else GOOD))
    more = [] if inside else ["--model.encoder", "encoder.yaml"]
    assert main(["fit", "--config", "config.yaml", *more]) == 2
    error = capsys.readouterr().err
    assert word in error
    assert "encoder.yaml" in error
    assert error.count("\n") == 1


def test_trust_ends_with_the_command(tmp_path):
    from jsonargparse import _common, _loaders_dumpers

    before, load = dict(_common.parsing_settings), _loaders_dumpers.loaders["yaml"]
    with trust.guarded(["my"], trust=False):
        assert _common.denying_import_path_entry("other.Class") == "*"
        assert _common.denying_import_path_entry("my.Class") is None
    assert _common.parsing_settings == before
    assert _loaders_dumpers.loaders["yaml"] is load


def laughs(depth):
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, depth)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (laughs(12), "more than 50000 values when its aliases are followed"),
        ("a: " + "[" * 100_000, "nested deeper than 50 levels"),
        ("a: &a\n  b: *a\n", "the value &a holds itself"),
        ("a: 2001-99-99\n", "cannot be read"),
        (f"a: {'9' * 5000}\n", "cannot be read"),
        ("a: !!python/object/apply:os.system ['touch ran']\n", "not YAML"),
        ("a: !!python/name:os.system\n", "not YAML"),
        ("a: \x01\n", "cannot be read"),
        ("a: " + "x" * 300_000, "at most 262144"),
        ("- 1\n", "holds no sections"),
        ("? [1, 2]\n: 3\n? {a: 1}\n: 2", "not YAML"),
    ],
)  # fmt: skip
def test_yaml_that_grows_or_runs_is_refused(tmp_path, monkeypatch, text, word):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(text)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigurationError, match=word) as caught:
            trust.check_config(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_aliases_in_measure_are_fine(tmp_path):
    (tmp_path / "a.yaml").write_text(f"{laughs(3)}\nb: &b {{x: 1}}\nc: {{<<: *b, y: 2}}\n")
    assert trust.read_config(tmp_path / "a.yaml")["c"] == {"x": 1, "y": 2}


def test_every_shipped_config_is_trusted(root):
    found = sorted((root / "configs").glob("*.yaml"))
    assert len(found) > 10
    for path in found:
        trust.check_config(path)


@pytest.mark.parametrize("key", [{"ckpt_path": "last"}, {"weights_only": False}])
def test_a_config_does_not_say_which_checkpoint_is_read(tmp_path, monkeypatch, capsys, key):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(GOOD | key))
    assert main(["fit", "--config", "config.yaml"]) == 2
    (name,) = key
    assert f"config.yaml: {name} is not for a config: give --{name} on the command line" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(GOOD | {name: None}))
    assert trust.check_config(tmp_path / "config.yaml")["data"]


class Runs:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    ("verb", "more", "said"),
    [
        ("fit", ["--ckpt_path", "last"], "last.ckpt"),
        ("test", ["--ckpt_path=last"], "last.ckpt"),
        ("fit", ["--ckpt_path", "last", "--weights_only", "false"], "--weights_only false lets a checkpoint run code"),
    ],
)
def test_a_checkpoint_behind_a_keyword_runs_nothing(tmp_path, monkeypatch, capsys, verb, more, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs").mkdir()
    torch.save({"state_dict": Runs()}, tmp_path / "theirs" / "last.ckpt")
    keeper = {"class_path": "ModelCheckpoint", "init_args": {"dirpath": "theirs", "save_last": True}}
    config = GOOD | {"trainer": GOOD["trainer"] | {"enable_checkpointing": True, "callbacks": [keeper]}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert main([verb, "--config", "config.yaml", *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


FUNCTION = {"class_path": "pcgen.load", "init_args": {"path": "evil.ckpt", "trust": True}}


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("model",), FUNCTION),
        (("data",), {"class_path": "pcgen.recipe.build_data", "init_args": {"recipe": {}, "trust": True}}),
        (("model", "init_args", "encoder"), {"class_path": "pcgen.recipe.build", "init_args": {"recipe": {}}}),
        (("model", "init_args", "optimizer"), "pcgen.checkpoint.load"),
        (("trainer", "callbacks"), [{"class_path": "pcgen.recipe.build", "init_args": {"recipe": {}, "trust": True}}]),
        (
            ("trainer", "callbacks"),
            [{"class_path": "LambdaCallback", "init_args": {"on_fit_start": "pcgen.checkpoint.load"}}],
        ),
    ],
    ids=range(6),
)
def test_no_function_is_called_in_the_place_of_a_class(tmp_path, monkeypatch, capsys, where, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(put(where, value)))
    assert main(["fit", "--config", "config.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is no class, and calling it would run code that a config chooses" in error


def test_words_that_are_no_classes_trust_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.Net").touch()
    words = "fit --name os.V2 --folder subprocess.Run1 --runs=os.Runs --data.init_args.path os.H5 --model there.Net "
    words += "--model.weights=os.v2 --trainer.max_epochs os.Three os.Four --trainer.logger.init_args.name=os.Name "
    words += "--model.optimizer torch.optim.Adam --config os.Config --data.init_args.root=os.Root"
    assert trust.own_words(words.split()) == []
    inside = ["--data={class_path: Shapes, init_args: {path: os.Path, augment: [{class_path: my.Turn}]}}"]
    assert trust.own_words(inside) == ["my"]
    assert trust.own_words(["--model.encoder.init_args.head", "your.nets.Head", "--trainer.logger=their.Logger"]) == [
        "their",
        "your",
    ]
