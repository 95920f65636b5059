"""The package as a stranger gets it: built as sdist and wheel, installed elsewhere, run outside the repository."""

import json
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
OURS = ["interp", "interp_pytest.py", "probes"]
TOP_LEVEL = "interp/pytest_plugin/top_level/interp_pytest.py"  # in the repository, and beside `interp` once installed
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def files_of(*folders):
    """Files of the repository by relative path, without what Python leaves beside them."""
    found = (file for folder in folders for file in (ROOT / folder).rglob("*") if file.is_file())
    return {str(file.relative_to(ROOT)) for file in found if "__pycache__" not in file.parts}


@pytest.fixture
def run(outside, tmp_path):
    """`run(command, ...)`: what a command that succeeds prints, in a folder that is not the repository."""

    def printed(*command):
        done = outside(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return printed


def test_the_wheel_holds_all_of_the_packages_but_what_made_the_model(built):
    names = {name for name in ZipFile(built[1]).namelist() if ".dist-info/" not in name}
    assert sorted({name.partition("/")[0] for name in names}) == OURS
    code = {name for name in files_of("interp", "probes") if not name.startswith("interp/reference/")}
    data = {f"interp/{name}" for name in files_of("datasets")}
    assert names == (code - {TOP_LEVEL}) | data | {"interp_pytest.py"}
    assert {"interp/py.typed", "probes/py.typed", "interp/datasets/reference/model.safetensors"} <= names


def test_the_sdist_holds_the_sources_and_nothing_else(built):
    with tarfile.open(built[0]) as sdist:
        members = [member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()]
    folders = {name.partition("/")[0] for name in members}
    added = {".gitignore", "PKG-INFO"}  # by the build backend itself
    files = {"CHANGELOG.md", "LICENSE", "README.md", "hatch_build.py", "pyproject.toml"}
    assert folders == {"interp", "probes", "datasets"} | files | added
    assert set(members) == files_of("interp", "probes", "datasets") | files | added


def test_the_metadata_say_what_the_repository_says(built):
    with ZipFile(built[1]) as wheel:
        (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        head, _, text = wheel.read(metadata).decode().partition("\n\n")
        assert [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]
    assert text.strip() == (ROOT / "README.md").read_text("utf-8").strip()
    assert {f"Name: {PROJECT['name']}", f"Version: {PROJECT['version']}"} <= set(head.splitlines())


def test_the_lowest_versions_are_those_that_are_tried():
    """A bound below the pins that `make lowest` installs would be a promise that nobody has tried."""
    pins = dict(line.split("==") for line in (ROOT / ".ci" / "lowest.txt").read_text().splitlines() if "==" in line)
    promised = {}
    for requirement in map(Requirement, PROJECT["dependencies"]):
        (lowest,) = [Version(one.version) for one in requirement.specifier if one.operator == ">="]
        promised[canonicalize_name(requirement.name)] = lowest
    assert promised == {name: Version(pins[name]) for name in promised}


def test_the_changelog_tells_of_this_version():
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines() if line.startswith("## ")]
    assert headings[0] == "## [Unreleased]"
    assert headings[1].startswith(f"## [{PROJECT['version']}] - 20")


def test_the_wheel_runs_a_probe_outside_the_repository(python_with_wheel, run):
    code = (
        "import interp, probes; from interp.data.shipped import shipped_root\n"
        "frame = probes.logit_lens('reference', ['Once upon a time'])\n"
        "print(interp.__file__); print(shipped_root()); print(len(frame), frame.kl_to_final.iloc[-1])\n"
        "print(probes.load_tuned_lens('reference').n_layers)"
    )
    package, data, result, n_layers = run(python_with_wheel, "-c", code).splitlines()[-4:]
    environment = str(python_with_wheel.parents[1])
    assert package.startswith(environment)
    assert data.startswith(environment)
    assert n_layers == "8"
    assert result == "45 0.0"  # five tokens (start-of-text and four) at nine layers


def test_the_wheel_brings_a_command_that_finds_the_built_in_probes(python_with_wheel, run):
    command = python_with_wheel.parent / "interp"
    names = {row["probe"] for row in json.loads(run(command, "probes", "--json"))}
    assert {"logit_lens", "top_tokens"} <= names
    assert run(python_with_wheel, "-m", "interp", "probes", "--json") == run(command, "probes", "--json")


def test_the_wheel_runs_the_demo(python_with_wheel, run, tmp_path):
    printed = run(python_with_wheel.parent / "interp", "demo", "--no-subnetwork")
    assert "wrote results/demo/logit_lens.parquet" in printed
    assert (tmp_path / "results" / "demo" / "logit_lens.png").is_file()


def test_every_module_of_the_wheel_can_be_imported_without_what_made_the_model(python_with_wheel, run):
    code = (
        "import importlib, importlib.util, json, pkgutil, interp, probes\n"
        "for package in (interp, probes):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "print(json.dumps([importlib.util.find_spec('interp.reference'), interp.__version__]))"
    )
    assert json.loads(run(python_with_wheel, "-c", code)) == [None, PROJECT["version"]]


def test_an_editable_install_copies_nothing(python_with_checkout, run):
    code = (
        "import json, interp, probes, interp_pytest; from importlib.metadata import files\n"
        "from interp.data.shipped import shipped_root\n"
        "print(json.dumps([interp.__file__, probes.__file__, interp_pytest.__file__, str(shipped_root())]))\n"
        "print(json.dumps([str(one) for one in files('interp-probes') if '.dist-info' not in str(one)]))"
    )
    places, copied = map(json.loads, run(python_with_checkout, "-c", code).splitlines())
    ours = ["interp/__init__.py", "probes/__init__.py", TOP_LEVEL, "datasets"]
    assert places == [str(ROOT / name) for name in ours]
    assert sorted(copied) == ["../../../bin/interp", "_interp_probes.pth"]


def test_the_version_is_that_of_the_metadata(python_with_checkout, run):
    code = "import sys, interp; print(interp.__version__, 'torch' in sys.modules, '__version__' in dir(interp))"
    assert run(python_with_checkout, "-c", code).split() == [PROJECT["version"], "False", "True"]
