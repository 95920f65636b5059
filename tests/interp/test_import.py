"""`import interp` is light: what needs a model library comes when it is asked for, and nobody can tell otherwise."""

import subprocess
import sys

import pytest

import interp
from interp.data.shipped import shipped_path

HEAVY = ("torch", "transformers", "transformer_lens", "nnsight", "matplotlib", "scipy", "sklearn")


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_it_imports_no_model_library():
    code = (
        "import sys, interp, interp.cli, interp.probes, interp.pytest_plugin, pandas\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules] or ['none'])\n"
        "print(hasattr(pandas.DataFrame, 'interp'), 'load' in dir(interp), 'load' in vars(interp))"
    )
    assert run(code) == ["none", "True", "True", "False"]


def test_the_probes_import_what_is_slow_where_they_use_it():
    """`import probes` then takes .15 s of processor time beside torch's and pandas' own, 1.0 and .28 s."""
    slow = (*HEAVY[1:], "fsspec", "gguf", "pyarrow.parquet", "regex", "simplemma", "tokenizers")
    code = f"import sys, probes\nprint(*[name for name in {slow} if name in sys.modules] or ['none'])"
    assert run(code) == ["none"]


@pytest.mark.parametrize("room", ["tokenization", "scorecard"])
def test_what_tokens_spell_needs_no_model_library(room):
    code = f"import sys, interp.{room}\nprint(*[name for name in {HEAVY} if name in sys.modules] or ['none'])"
    assert run(code) == ["none"]


def test_tokenizers_are_scored_without_torch():
    folder = str(shipped_path("reference"))
    code = f"import sys, interp\ninterp.tokenizer_scorecard({folder!r}, ['Once'])\nprint('torch' in sys.modules)"
    assert run(code)[-1:] == ["False"]


def test_every_public_name_is_there_and_listed():
    assert set(interp.__all__) <= set(dir(interp))
    names: dict[str, object] = {}
    exec("from interp import *", names)
    assert set(interp.__all__) <= set(names)
    assert interp.load is interp.model.loading.load and interp.Tape is interp.model.tape.Tape


def test_submodules_do_not_hide_names():
    """`interp.options` is the settings, though a module of that name exists."""
    import interp.options

    assert isinstance(interp.options.memory, int)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'interp' has no attribute 'laod'"):
        getattr(interp, "laod")  # noqa: B009  written out, it would be a useless expression
