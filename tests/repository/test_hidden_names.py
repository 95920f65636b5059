"""A user's own `probes` or `interp` in the working folder: one sentence that names it, and their own code runs on."""

import pytest

import interp

PROBES = {
    "importable": ("probes/__init__.py", "MINE = 1\n"),
    "raising": ("probes/__init__.py", "raise RuntimeError('mine')\n"),
    "script": ("probes.py", "import sys; print('mine runs'); sys.exit(0)\n"),
}
INTERP = {
    "module": ("interp.py", "VALUE = 7\n"),
    "package": ("interp/__init__.py", "VALUE = 7\n"),
    "script": ("interp.py", "import sys; print('mine runs'); sys.exit(0)\n"),
}
FINDING = """
import pytest

def test_mine():
    assert True

@pytest.mark.finding(model="reference", data="prompts", n=6)
def test_finding(finding):
    finding.run("logit_lens")
"""
READ = "import pandas as pd, interp; frame = pd.read_parquet('frame.parquet'); "
ASKING = {
    "view": "import interp; interp.probes.logit_lens",
    "import": "from interp.probes import logit_lens",
    "registry": "from interp.runs import registry; registry.get('logit_lens')",
    "claims": "from interp.findings import claim; claim.names()",
    "summary": READ + "frame.interp.summary()",
    "plot": READ + "frame.interp.plot()",
}


@pytest.fixture(scope="module")
def frame():
    return interp.probes.logit_lens("reference", ["Once upon a time"], positions=-1)


@pytest.fixture
def mine(tmp_path):
    """`mine(path, source)`: a folder with this module of the user's in it, and the module."""
    folder = tmp_path / "mine"

    def write(path, source):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(source)
        return folder

    return write


@pytest.fixture
def python(python_with_wheel, outside):
    """`python(folder, argument, ...)`: a run of an interpreter that has the wheel, in this folder."""
    return lambda folder, *arguments, **variables: outside(python_with_wheel, *arguments, cwd=folder, **variables)


@pytest.mark.parametrize("kind", PROBES)
def test_own_probes_are_named_in_python(mine, python, frame, kind):
    folder = mine(*PROBES[kind])
    frame.to_parquet(folder / "frame.parquet")
    hiding = folder / PROBES[kind][0].removesuffix("/__init__.py")
    sentence = f"{str(hiding)!r} hides interp's own package 'probes', as it comes first on the path: rename it"
    tries = [f"try: {code}\nexcept InterpError as error: print(error)" for code in ASKING.values()]
    done = python(folder, "-c", "\n".join(["from interp.errors import InterpError", *tries]))
    lines = done.stdout.splitlines()
    assert len(lines) == len(ASKING), done.stdout + done.stderr
    assert all(line.startswith(sentence) for line in lines)
    assert done.stderr == ""


def test_own_probes_end_in_one_traceback_without_a_second_cause(mine, python):
    done = python(mine(*PROBES["raising"]), "-c", ASKING["view"])
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.splitlines()[-1].startswith("interp.errors.InterpError: '")


@pytest.mark.parametrize("command", [("probes",), ("run", "logit_lens"), ("findings",), ("demo",)])
def test_own_probes_are_one_sentence_on_the_command_line(mine, python, command):
    folder = mine(*PROBES["importable"])
    done = python(folder, "-m", "interp.cli", *command)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"interp: {str(folder / 'probes')!r} hides interp's own package")


def test_own_probes_fail_a_finding_in_one_sentence_and_no_other_test(mine, python):
    folder = mine(*PROBES["raising"])
    mine("test_mine.py", FINDING)
    done = python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    errors = [line for line in done.stdout.splitlines() if line.startswith("E ")]
    assert len(errors) == 1
    assert "hides interp's own package 'probes'" in errors[0]
    assert "plugins.py" not in done.stdout  # where inside it is raised tells a user nothing


@pytest.mark.parametrize("kind", INTERP)
def test_own_interp_is_named_where_probes_are_imported(mine, python, kind):
    path, source = INTERP[kind]
    folder = mine(path, source)
    done = python(folder, "-c", "from probes import logit_lens")
    assert done.stdout == ""  # and was not run
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: {str(folder / path)!r} hides the package 'interp'")


def test_own_modules_do_not_disturb_the_command(mine, python_with_wheel, outside):
    """Its folder comes first on the path, not the working folder."""
    mine(*PROBES["raising"])
    folder = mine(*INTERP["module"])
    done = outside(python_with_wheel.parent / "interp", "describe", "logit_lens", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "kl_to_final" in done.stdout


# `python -m pytest` puts the working folder on the path before plugins are loaded; `pytest`, as with -P, does not.
@pytest.mark.parametrize(("kind", "start"), [("module", ()), ("package", ("-P",))])
def test_with_an_own_interp_own_tests_run_without_the_plugin(mine, python, kind, start):
    path, source = INTERP[kind]
    folder = mine(path, source)
    mine("test_mine.py", "def test_mine():\n    import interp\n    assert interp.VALUE == 7\n")
    done = python(folder, *start, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"interp: {str(folder / path)!r} hides the package 'interp' of interp-probes")
    silenced = python(folder, *start, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:interp")
    assert (silenced.returncode, silenced.stderr) == (0, "")


def test_with_workers_the_sentence_comes_once(mine, python):
    folder = mine(*INTERP["script"])
    mine("test_mine.py", "def test_mine():\n    assert True\n")
    done = python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2")
    assert "1 passed" in done.stdout
    assert done.stderr.count("hides the package") == 1


@pytest.mark.parametrize("environment", ["python_with_wheel", "python_with_checkout"])
def test_where_nothing_is_hidden_the_plugin_is_there_and_light(environment, request, outside, mine):
    """Also beside a folder `interp` that is not a package, and switched off as ever by `-p no:interp`."""
    folder = mine("interp/notes.txt", "not a package")
    mine(
        "test_mine.py",
        "import sys\n\ndef test_light(request):\n"
        "    assert request.config.pluginmanager.get_plugin('interp').__name__ == 'interp.pytest_plugin'\n"
        "    assert 'torch' not in sys.modules\n",
    )
    python = request.getfixturevalue(environment)
    done = outside(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    markers = outside(python, "-m", "pytest", "--markers", cwd=folder).stdout
    assert "@pytest.mark.finding" in markers
    off = outside(python, "-m", "pytest", "--markers", "-p", "no:interp", cwd=folder)
    assert off.returncode == 0
    assert "@pytest.mark.finding" not in off.stdout
