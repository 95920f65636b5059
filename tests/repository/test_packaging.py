"""The package as a stranger gets it: built as a wheel, installed elsewhere, run outside the repository."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def python_with_wheel(tmp_path_factory):
    """A new environment with our wheel in it and nothing else of ours.

    Its dependencies are those of the running environment, put on its path by a .pth file: files of that kind found
    there are not followed, so the running environment's editable install of `interp` is out of reach.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True)
    own = folder / "venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(python, *arguments, cwd):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [python, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True).stdout


def test_wheel_runs_a_probe_outside_the_repository(python_with_wheel, tmp_path):
    code = (
        "import interp, probes; from interp.data.shipped import shipped_root\n"
        "frame = probes.logit_lens('reference', ['Once upon a time'])\n"
        "print(interp.__file__); print(shipped_root()); print(len(frame), frame.kl_to_final.iloc[-1])\n"
        "print(probes.load_tuned_lens('reference').n_layers)"
    )
    package, data, result, n_layers = run(python_with_wheel, "-c", code, cwd=tmp_path).splitlines()[-4:]
    environment = str(python_with_wheel.parents[1])
    assert package.startswith(environment)
    assert data.startswith(environment)
    assert n_layers == "8"
    assert result == "45 0.0"  # five tokens (start-of-text and four) at nine layers


def test_wheel_has_the_console_script_and_finds_the_built_in_probes(python_with_wheel, tmp_path):
    out = run(python_with_wheel.parent / "interp", "probes", "--json", cwd=tmp_path)
    assert "logit_lens" in out
    assert "top_tokens" in out


def test_wheel_installs_no_top_level_names_but_ours(python_with_wheel):
    code = (
        "from importlib.metadata import files\n"
        "print(sorted({str(f).split('/')[0] for f in files('interp-probes') if '.dist-info' not in str(f)} - {'..'}))"
    )
    out = run(python_with_wheel, "-c", code, cwd=python_with_wheel.parent)
    assert out.strip() == "['interp', 'probes']"
