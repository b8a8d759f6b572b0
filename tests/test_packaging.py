"""The map from folders to packages, held against the tree and against a built wheel."""

import subprocess
import sys
import tomllib
import zipfile

import pytest

HOMES = {"models": "models", "datamodules": "datamodules", "callbacks": "callbacks", "configs": "configs"}


@pytest.fixture(scope="module")
def setup(root):
    return tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]


def folders(root):
    """Every package that the tree has, by its import name."""
    found = {".".join(p.parent.relative_to(root).parts) for p in (root / "pcgen").rglob("__init__.py")}
    return found | {f"pcgen.{name}" for name, home in HOMES.items() if (root / home / "__init__.py").exists()}


def test_the_list_of_packages_is_the_tree(root, setup):
    assert set(setup["packages"]) == folders(root)
    assert setup["packages"] == sorted(setup["packages"])


def test_the_map_leads_to_the_folders(root, setup):
    assert setup["package-dir"] == {"pcgen": "pcgen"} | {f"pcgen.{k}": v for k, v in HOMES.items()}
    assert all((root / folder).is_dir() for folder in setup["package-dir"].values())


def test_the_user_folders_hold_no_packages_of_their_own(root):
    """A package inside models/ would be missing from the wheel."""
    for home in HOMES.values():
        assert [p.parent.name for p in (root / home).rglob("__init__.py")] == [home]


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source")
    for part in ("pcgen", *HOMES, "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", str(root / part), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(source)]
    subprocess.run(command, check=True, timeout=240)
    (file,) = out.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        return archive.namelist()


def test_the_wheel_has_every_module_and_config(root, wheel):
    expected = {str(p.relative_to(root)) for p in (root / "pcgen").rglob("*.py")} | {"pcgen/py.typed"}
    for name, home in HOMES.items():
        expected |= {f"pcgen/{name}/{p.name}" for p in (root / home).iterdir() if p.suffix in {".py", ".yaml"}}
    assert expected <= set(wheel)


def test_the_wheel_has_the_weights_that_pcgen_knows(root, wheel):
    from pcgen.metrics.extractors import SHIPPED

    expected = {f"pcgen/weights/{name}{suffix}" for name in SHIPPED for suffix in (".pt", ".json")}
    assert {name for name in wheel if name.startswith("pcgen/weights/")} == expected
    assert {f"pcgen/weights/{p.name}" for p in (root / "pcgen" / "weights").iterdir()} == expected


def test_the_wheel_puts_nothing_else_into_site_packages(wheel):
    top = {name.split("/")[0] for name in wheel}
    assert {t for t in top if not t.endswith(".dist-info")} == {"pcgen"}
