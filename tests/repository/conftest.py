"""Environments with the package in them as a stranger gets it, outside the repository."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def new_environment(folder):
    """A new environment with none of our packages in it.

    Its dependencies are those of the running environment, put on its path by a .pth file: files of that kind found
    there are not followed, so the running environment's editable install of `interp` is out of reach.
    """
    venv.create(folder)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = folder / "lib" / version / "site-packages"
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def install(python, *what):
    """Install by the running environment's pip: to put another into each takes longer than all else."""
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    pip = [sys.executable, "-m", "pip", "--python", python]
    subprocess.run([*pip, "install", *options, *what], check=True, capture_output=True)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """(sdist, wheel): the second is built from the first, as a package index's users may have to."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="session")
def python_with_wheel(built, tmp_path_factory):
    """The interpreter of a new environment with our wheel in it."""
    python = new_environment(tmp_path_factory.mktemp("wheel") / "venv")
    install(python, built[1])
    return python


@pytest.fixture(scope="session")
def python_with_checkout(tmp_path_factory):
    """The interpreter of a new environment with an editable install of this repository."""
    python = new_environment(tmp_path_factory.mktemp("checkout") / "venv")
    install(python, "--editable", ROOT)
    return python


@pytest.fixture(scope="session")
def outside():
    """`outside(command, ..., cwd=, **variables)`: a finished process that knows nothing of the running one."""

    def run(*command, cwd, **variables):
        inherited = ("PYTHONPATH", "PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST")
        environment = {key: value for key, value in os.environ.items() if key not in inherited} | variables
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)

    return run
