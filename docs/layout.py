"""Say which code the documentation covers: the families of probes, the modules of the reference, the public names."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAMILIES = sorted(path.parent for path in (ROOT / "probes").glob("*/__init__.py"))
GUIDES = ROOT / "docs" / "pages"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CARDS = sorted((ROOT / "datasets").glob("*/README.md"))
INDEXES = ("interp", "interp.authoring", "probes")
"""The packages whose names users import from one place; the reference lists the names of each."""


def subpackages(package: Path) -> list[Path]:
    """Return the folders of a family that hold modules."""
    return sorted(path.parent for path in package.glob("*/__init__.py"))


def public_modules(package: Path) -> list[Path]:
    """Return the modules of a family that a user may want to read about, its figures and claims aside."""
    found = sorted(package.glob("*.py"))
    return [path for path in found if not path.stem.startswith("_") and path.stem not in ("plots", "claims")]


def module_name(path: Path) -> str:
    """Return the dotted name of a module or of a package's folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def file_of(name: str) -> Path:
    """Return the file of a module, or the `__init__.py` of a package."""
    path = ROOT / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def docstring(path: Path) -> str:
    """Return a module's docstring without importing the module."""
    return ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""


def homes(package: str) -> dict[str, str]:
    """Return for each name in a package's `__all__` the module that it is imported from."""
    found, exported = {}, []
    for node in ast.walk(ast.parse(file_of(package).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {(one.asname or one.name): node.module for one in node.names}
        elif isinstance(node, ast.Assign) and [getattr(one, "id", "") for one in node.targets] == ["__all__"]:
            exported = ast.literal_eval(node.value)
    return {name: found[name] for name in exported}


_MODULES = {
    "Writing a probe": ["interp.authoring", "interp.display.plotting"],
    "Models": [
        "interp.model.loading",
        "interp.model.sources.fetching",
        "interp.model.subject",
        "interp.model.tokens",
        "interp.tokenization",
        "interp.scorecard.table",
        "interp.model.sites",
        "interp.model.sites.record",
        "interp.model.tape",
        "interp.model.schedules",
        "interp.model.generation",
        "interp.model.prefixes.shared",
        "interp.model.prefixes.tree",
        "interp.model.readout",
        "interp.planted",
    ],
    "Frames": [
        "interp.runs.accessor",
        "interp.stats",
        "interp.options",
        "interp.errors",
        "interp.data.shipped",
        "interp.sweeps.sweep",
        "interp.sweeps.result",
    ],
    "Findings": ["interp.findings", "interp.pytest_plugin.finding", "interp.report.page", "interp.notebook"],
}
_LISTED = {"interp", "probes"}.union(*_MODULES.values())
_OTHERS = {home for package in INDEXES for home in homes(package).values() if not home.startswith("probes.")}
MODULES = {
    "What to import": ["interp", "probes"],
    **_MODULES,
    "Writing a probe": _MODULES["Writing a probe"] + sorted(_OTHERS - _LISTED),
}
"""The parts of the reference: what is listed here, and every module that a public name comes from."""
PACKAGES = [folder for family in FAMILIES for folder in (family, *subpackages(family))]
CODE = {*PACKAGES, *(module for package in PACKAGES for module in public_modules(package))}
REFERENCE = {file_of(name): name for names in MODULES.values() for name in names}
CODE |= set(REFERENCE)
