import copy
import functools

import numpy as np
import pytest
import torch
from torch import nn

from pcgen.errors import CheckpointError, ConfigurationError
from pcgen.models import VAE
from pcgen.nets import MLPDecoder, PointNetEncoder
from pcgen.recipe import Recorded, build, class_path, describe


class Part(Recorded):
    def __init__(self, a, b=2, *, c=(1, 2), **others):
        self.a, self.b, self.c, self.others = a, b, c, others


class Child(Part):
    def __init__(self, extra=5):
        super().__init__(a=1)
        self.extra = extra


def test_records_what_was_given_and_what_was_not():
    assert describe(Part(1, c=[3], d="x"))["init_args"] == {"a": 1, "b": 2, "c": [3], "d": "x"}


def test_numpy_numbers_become_plain_ones():
    written = describe(
        {"a": np.float64(0.5), "b": np.float32(0.25), "c": np.int64(3), "d": np.bool_(True), "e": np.str_("x")}
    )
    assert written == {"a": 0.5, "b": 0.25, "c": 3, "d": True, "e": "x"}
    assert [type(v) for v in written.values()] == [float, float, int, bool, str]


def test_a_subclass_records_its_own_arguments():
    assert describe(Child(7))["init_args"] == {"extra": 7}


def test_nested_parts_come_back_equal():
    recipe = describe(VAE(PointNetEncoder((8, 16), pool="mean"), MLPDecoder(4, 32, (8,))))
    again = build(recipe)
    assert describe(again) == recipe
    assert again.encoder.points.pool == "mean"
    assert again.sample_shape == (32, 3)


def test_an_optimizer_is_recorded_with_its_arguments_and_waits_for_parameters():
    recipe = describe(functools.partial(torch.optim.SGD, lr=0.25, momentum=0.5))
    optimizer = build(recipe)([nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.defaults["lr"] == 0.25
    assert optimizer.defaults["momentum"] == 0.5


def test_deep_copies_keep_the_record():
    net = MLPDecoder(4, 8, (16,))
    assert describe(copy.deepcopy(net)) == describe(net)


def test_public_path_is_the_shortest():
    assert class_path(PointNetEncoder) == "pcgen.nets.PointNetEncoder"


def test_what_cannot_be_written_down_is_named():
    with pytest.raises(ConfigurationError, match=r"model\.encoder is a Linear.*Recorded"):
        describe(VAE(encoder=_with_features(nn.Linear(3, 3))), where="model")


def _with_features(module):
    module.out_features = 3
    return module


@pytest.mark.parametrize("path", ["os.system", "builtins.eval", "torch.hub.load", "pcgenevil.Thing", "a.b"])
def test_untrusted_classes_are_refused_before_import(path):
    with pytest.raises(CheckpointError, match=r"outside pcgen|not a class"):
        build({"class_path": path, "init_args": {}})


@pytest.mark.parametrize("path", ["pcgen.recipe.importlib", "pcgen.recipe.build", "pcgen.nope.X", "pcgen.nets.Nope"])
def test_only_recorded_classes_are_built(path):
    with pytest.raises(CheckpointError, match=r"not a class that|has no"):
        build({"class_path": path})


def test_untrusted_module_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Net: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match="trust=True"):
        build({"class_path": "stranger.Net"})
    assert not (tmp_path / "ran").exists()


def test_trusted_class_from_outside(tmp_path, monkeypatch):
    (tmp_path / "friend.py").write_text(
        "from pcgen.recipe import Recorded\nclass Net(Recorded):\n    def __init__(self, n): self.n = n\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert build({"class_path": "friend.Net", "init_args": {"n": 3}}, trust=True).n == 3


def test_arguments_that_do_not_fit_are_an_error_of_the_checkpoint():
    with pytest.raises(CheckpointError, match="cannot be built from its record"):
        build({"class_path": "pcgen.nets.MLPDecoder", "init_args": {"no_such": 1}})
