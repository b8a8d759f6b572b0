"""A model as safetensors through the whole command line: written, then taken where a checkpoint is."""

import pytest

from pcgen.io import read_clouds


def test_what_is_exported_is_taken_for_a_checkpoint(cli, trained, tmp_path):
    result = cli("export", trained, "model.safetensors")
    assert result.status == 0
    assert "model.safetensors" in result.err
    drawn = []
    for source, out in ((trained, "a.npy"), ("model.safetensors", "b.npy")):
        assert cli("sample", source, "-n", 3, "--out", out, "--seed", 2).status == 0
        drawn.append(read_clouds(tmp_path / out).points)
    assert (drawn[0] == drawn[1]).all()
    assert cli("reconstruct", "model.safetensors", "a.npy", "--out", "c.npy").status == 0
    assert cli("export", "model.safetensors", "again.safetensors").status == 0
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_training_verbs_take_it_too_but_none_goes_on_from_it(cli, trained, tmp_path):
    assert cli("export", trained, "model.safetensors").status == 0
    config = ("--config", trained / "config.yaml")
    for source in (trained / "checkpoints" / "last.ckpt", "model.safetensors"):
        assert cli("predict", *config, "--ckpt_path", source, "--name", "a").status == 0
    one, other = (read_clouds(file).points for file in tmp_path.glob("runs/a/*/predictions.h5"))
    assert (one == other).all()
    assert cli("test", *config, "--ckpt_path", "model.safetensors").status == 0
    assert "give the .ckpt that it came from" in cli("fit", *config, "--ckpt_path", "model.safetensors").error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("x.safetensors", "--name", "me"), "--name is for an extractor"),
        (("x.safetensors", "--card", "me.json"), "--card is for an extractor"),
        (("x.safetensors", "--no-data"), "--no-data is for an extractor"),
        (("x.onnx",), "something.safetensors"),
        (("x",), "something.safetensors"),
    ],
)
def test_options_without_effect_and_other_names_are_refused(cli, trained, tmp_path, words, expected):
    before = set(tmp_path.iterdir())
    assert expected in cli("export", trained, *words).error
    assert set(tmp_path.iterdir()) == before


def test_a_damaged_file_is_one_error(cli, trained, tmp_path):
    cli("export", trained, "model.safetensors")
    whole = bytearray((tmp_path / "model.safetensors").read_bytes())
    whole[-5] ^= 1
    (tmp_path / "model.safetensors").write_bytes(whole)
    assert "their sha256 differs" in cli("sample", "model.safetensors", "--out", "a.npy").error
