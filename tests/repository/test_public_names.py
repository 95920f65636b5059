"""The names that users and authors import, and the one name that must stay free."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[2]
# Names that a module needs itself, or that something else asks it for. None of them is offered.
OWN = {
    "interp": {"TYPE_CHECKING", "Any", "import_module", "load_ipython_extension", "unload_ipython_extension"},
    "interp.authoring": set(),
    "interp.findings": set(),
    "interp.planted": set(),
    "interp.stats": set(),
    "interp.tokenization": set(),
    "probes": {"PROBES", "Probe"},
}


@pytest.mark.parametrize("name", OWN)
def test_public_names_are_exported(name):
    """What a module holds beside other modules is what its `__all__` lists: nothing slips in, nothing gets lost."""
    module = import_module(name)
    exported = {one: getattr(module, one) for one in module.__all__}  # those that are lazy are held from now on
    held = [one for one, value in vars(module).items() if not one.startswith("_") and not isinstance(value, ModuleType)]
    assert sorted(exported) == sorted(set(held) - OWN[name])
    assert set(held) >= OWN[name]


@pytest.mark.parametrize("name", OWN)
def test_a_star_imports_the_exported_names(name):
    names: dict[str, object] = {}
    exec(f"from {name} import *", names)
    assert set(names) - {"__builtins__"} == set(import_module(name).__all__)


def test_datasets_holds_data_only():
    """A package of that name at the root would shadow the one TransformerLens imports."""
    folder = REPOSITORY / "datasets"
    assert folder.is_dir()
    assert [str(path.relative_to(folder)) for path in folder.rglob("*.py*")] == []


def test_import_datasets_is_hugging_faces():
    import datasets

    assert datasets.__file__ is not None
    assert "site-packages" in Path(datasets.__file__).parts and hasattr(datasets, "load_dataset")
