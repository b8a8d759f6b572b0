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
