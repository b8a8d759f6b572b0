"""Every example in a docstring of the mathematics, the scores and the losses runs and gives what it says."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import pcgen.losses
import pcgen.metrics
import pcgen.ops

PACKAGES = (pcgen.ops, pcgen.metrics, pcgen.losses)
MODULES = [
    module.name for package in PACKAGES for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
]
NEEDS = {"triton"}  # what a machine may lack without a fault


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    import torch

    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in NEEDS:
            raise
        pytest.skip(f"{error.name} is not installed")
    found = doctest.testmod(module, extraglobs={"torch": torch, "pcgen": pcgen}, report=True)
    assert not found.failed


def test_public_functions_have_an_example():
    from pcgen.losses import sinkhorn_divergence
    from pcgen.metrics import functional

    public = [getattr(package, name) for package in (pcgen.ops, functional) for name in package.__all__]
    public.append(sinkhorn_divergence)
    functions = [f for f in public if inspect.isfunction(f)]
    assert len(functions) > 20
    without = [f"{f.__module__}.{f.__name__}" for f in functions if ">>>" not in (inspect.getdoc(f) or "")]
    assert not without
