"""The shape of the house: which room may import from which, without a circle, in small files and small folders.

The tables say it and `breaches` checks it, with a mend for everything that it finds. That `import interp` brings no
model library is in `tests/interp/test_import.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from interp.frames.schema import VOCABULARY
from interp.model.sites import SiteName
from interp.runs import registry

REPOSITORY = Path(__file__).parents[2]
MOST_LINES, MOST_FILES = 300, 17

# A room of `interp` may import from the floors above its own in this table, and from itself.
FLOORS = (
    ("errors",),
    ("checks",),
    ("options",),
    ("frames", "stats", "data", "tokenization"),
    ("planted",),
    ("display", "model", "reference"),
    ("runs",),
    ("findings", "authoring", "sweeps", "scorecard"),
    ("report", "notebook", "pytest_plugin", "probes"),
    ("cli",),
    ("__main__", "__init__"),  # lazily, so that `import interp` stays light
)
ROOMS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# A family of `probes` may import these, rooms as a whole or single modules, and what is its own.
FOR_FAMILIES = (
    *("interp.authoring", "interp.stats", "interp.data", "interp.tokenization", "interp.planted"),
    *("interp.display.plotting", "interp.display.interactive"),
    *("interp.findings.__init__", "interp.findings.per_prompt", "probes.papers"),
    *(f"interp.model.{name}" for name in ("tape", "schedules", "sites", "weights", "head", "readout")),
)
BETWEEN_FAMILIES = {("layers", "neurons"), ("characters", "vocab"), ("geometry", "characters")}


class Import(NamedTuple):
    """One name imported by a statement: `module` imports `target`, both a file's dotted path."""

    module: str
    target: str
    name: str
    where: str
    at_once: bool  # when the module is loaded, and not when a function is called


def modules(root: Path) -> dict[str, Path]:
    """The files of the packages in a folder by dotted path; a package itself is `<package>.__init__`."""
    files = [file for package in ("interp", "probes") for file in sorted((root / package).rglob("*.py"))]
    return {".".join(file.relative_to(root).with_suffix("").parts): file for file in files}


def imports(root: Path) -> Iterator[Import]:
    """Every import of one of these modules by another. Those under TYPE_CHECKING count, for a reader needs both."""
    files = modules(root)
    for module, file in files.items():
        tree = ast.parse(file.read_text("utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        late = {node for function in functions for node in ast.walk(function)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                asked = [(one.name, "", f"import {one.name}") for one in node.names]
            elif isinstance(node, ast.ImportFrom):
                package = module.split(".")[: -node.level] if node.level else []
                origin = ".".join([*package, *([node.module] if node.module else [])])
                asked = [(origin, one.name, f"from {origin} import {one.name}") for one in node.names]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                given = [one.value for one in node.args[:1] if isinstance(one, ast.Constant)]
                asked = [(name, "", ast.unparse(node)) for name in given]
            else:
                continue
            for origin, name, statement in asked:
                names = (f"{origin}.{name}.__init__", f"{origin}.{name}", f"{origin}.__init__", origin)
                target = next((one for one in names if one in files), None)
                if target and target != module:
                    where = f"{file.relative_to(root)}:{node.lineno}: {statement}"
                    yield Import(module, target, name or target, where, node not in late)


def breaches(root: Path) -> list[str]:
    """What breaks a rule, each as a sentence with a mend."""
    files, found = modules(root), list(imports(root))
    authoring = {one.name for one in found if one.module == "interp.authoring"}
    lines = {file.relative_to(root): len(file.read_text("utf-8").splitlines()) for file in files.values()}
    folders = [file.parent for file in lines]
    return [
        *(f"{one.where}: {mend}" for one in found if (mend := _mend(one, authoring))),
        *_circles(found),
        *(f"{file} has {n} lines, {MOST_LINES} at most: divide it." for file, n in lines.items() if n > MOST_LINES),
        *(
            f"{folder}/ holds {n} files, {MOST_FILES} at most: put those of one concern into a folder."
            for folder in dict.fromkeys(folders)
            if (n := folders.count(folder)) > MOST_FILES
        ),
    ]


def _mend(one: Import, authoring: set[str]) -> str:
    """What to do about an import; empty for one that may be."""
    (package, room), (other, needed) = one.module.split(".")[:2], one.target.split(".")[:2]
    if (other, needed) == ("interp", "reference") != (package, room):
        return f"only the training of the shipped model is there; move {one.name!r} to interp.data."
    if package == "interp":
        if other == "probes":
            return f"interp knows no method; ask interp.runs.registry for it, or move {one.name!r} into interp."
        if room not in ROOMS or needed not in ROOMS:
            return f"{room if room not in ROOMS else needed!r} has no floor; give it one in FLOORS."
        if room != needed and ROOMS[room] <= ROOMS[needed]:
            below = [name for floor in FLOORS[: ROOMS[room]] for name in floor]
            return f"{room!r} may import from {', '.join(below) or 'nowhere'}; move {one.name!r} there."
        return ""
    if room in ("__init__", "claims", "demo", "known_answers") or (other, needed) == ("probes", room):
        return ""
    if room == "papers":
        return "papers are strings; leave the import out."
    if any(f"{one.target}.".startswith(f"{allowed}.") for allowed in FOR_FAMILIES):
        return ""
    if other == "probes":
        if needed in ("__init__", "claims", "demo"):
            return f"the list stands above what it lists; import {one.name!r} from its own module."
        if (room, needed) in BETWEEN_FAMILIES:
            return ""
        return f"families do not import each other; move {one.name!r} down into a room of interp that both may use."
    if one.name in authoring:
        return f"import {one.name!r} from interp.authoring."
    return f"methods do not import {one.target}; offer {one.name!r} in interp.authoring if anyone's method may need it."


def _circles(found: list[Import]) -> Iterator[str]:
    """The first circle of modules that import each other when they are loaded."""
    graph: dict[str, dict[str, None]] = {}  # in order, so that the same circle is named every time
    for one in found:
        if one.at_once:
            graph.setdefault(one.module, {})[one.target] = None
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1][::-1]
        steps = [next(one.where for one in found if one[:2] == step) for step in pairwise(circle)]
        yield f"a circle: {'; '.join(steps)}: move what they share into a module of its own."


def test_the_house_keeps_its_rules():
    found = breaches(REPOSITORY)
    assert not found, "\n".join(found)


HOUSE = {
    "interp/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from interp.model.tape import Tape",
    "interp/errors.py": "",
    "interp/stats/__init__.py": "from interp.stats.units import mean",
    "interp/stats/units.py": "import math",
    "interp/model/tape.py": "from interp.errors import Tape",
    "interp/model/loading.py": "from interp.model.tape import Tape",
    "interp/display/html.py": "import interp.errors",
    "interp/runs/run.py": "from interp.model.tape import Tape\ndef page():\n    from interp.display import html",
    "interp/findings/__init__.py": "from interp.runs.run import Run",
    "interp/authoring.py": "from interp.model.loading import load",
    "interp/data/shipped.py": "",
    "interp/reference/train.py": "from interp.data.shipped import path",
    "probes/__init__.py": "from probes.layers.stages import stages",
    "probes/papers.py": "",
    "probes/claims.py": "from probes.layers.claims import CLAIMS",
    "probes/layers/claims.py": "from interp.findings import Claim",
    "probes/layers/stages.py": "from interp.authoring import load\nfrom probes.neurons._kinds import kinds",
    "probes/neurons/_kinds.py": "from interp.stats import units\nfrom interp.model import tape\nimport probes.papers",
    "probes/lens/lens.py": "",
}


def build(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    return root


def test_a_house_that_keeps_its_rules_passes(tmp_path):
    assert breaches(build(tmp_path, HOUSE)) == []


@pytest.mark.parametrize(
    ("file", "statement", "mend"),
    [
        ("interp/stats/a.py", "from interp.model.tape import Tape", "'stats' may import from errors, checks, "
         "options; move 'Tape' there."),
        ("interp/errors.py", "from interp.stats.units import mean", "'errors' may import from nowhere; move 'mean' "
         "there."),
        ("interp/model/a.py", "from interp.display import html", "'model' may import from errors, checks, options, "
         "frames, stats, data, tokenization, planted; move 'html' there."),
        ("interp/data/shipped.py", "from interp import load", "'data' may import from errors, checks, "
         "options; move 'load' there."),
        ("interp/runs/a.py", "from probes.lens.lens import lens", "interp knows no method; ask interp.runs.registry "
         "for it, or move 'lens' into interp."),
        ("interp/cli/a.py", "import_module('probes.lens.lens')", "interp knows no method; ask interp.runs.registry for "
         "it, or move 'probes.lens.lens' into interp."),
        ("interp/report.py", "from interp.reference.train import step", "only the training of the shipped model is "
         "there; move 'step' to interp.data."),
        ("probes/lens/a.py", "from interp.reference import train", "only the training of the shipped model is there; "
         "move 'train' to interp.data."),
        ("interp/attic/a.py", "from interp.errors import Tape", "'attic' has no floor; give it one in FLOORS."),
        ("probes/lens/a.py", "from interp.model.loading import load", "import 'load' from interp.authoring."),
        ("probes/lens/a.py", "from interp.runs.run import Run", "methods do not import interp.runs.run; offer 'Run' in "
         "interp.authoring if anyone's method may need it."),
        ("probes/lens/a.py", "from interp.display import html", "methods do not import interp.display.html; offer "
         "'html' in interp.authoring if anyone's method may need it."),
        ("probes/lens/a.py", "from probes.neurons._kinds import kinds", "families do not import each other; move "
         "'kinds' down into a room of interp that both may use."),
        ("probes/neurons/a.py", "from probes.layers import stages", "families do not import each other; move 'stages' "
         "down into a room of interp that both may use."),
        ("probes/lens/a.py", "from probes.claims import CLAIMS", "the list stands above what it lists; import 'CLAIMS' "
         "from its own module."),
        ("probes/papers.py", "from interp.errors import Tape", "papers are strings; leave the import out."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("lead", ["", "import math\nif TYPE_CHECKING:\n    ", "def call():\n    "])
def test_a_bad_import_is_named_with_its_mend(tmp_path, file, statement, mend, lead):
    root = build(tmp_path, HOUSE | {file: lead + statement})
    assert breaches(root) == [f"{file}:{1 + lead.count(chr(10))}: {statement}: {mend}"]


def test_a_relative_import_is_an_import(tmp_path):
    root = build(tmp_path, HOUSE | {"interp/stats/a.py": "from ..model.tape import Tape\nfrom .units import mean"})
    (breach,) = breaches(root)
    assert breach.startswith("interp/stats/a.py:1: from interp.model.tape import Tape: 'stats' may import from")


def test_a_circle_is_walked_through(tmp_path):
    back = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from interp.model.loading import load"
    assert breaches(build(tmp_path, HOUSE | {"interp/model/tape.py": back})) == [
        "a circle: interp/model/tape.py:3: from interp.model.loading import load; "
        "interp/model/loading.py:1: from interp.model.tape import Tape: move what they share into a module of its own."
    ]
    late = "def call():\n    from interp.model.loading import load"
    assert breaches(build(tmp_path, {"interp/model/tape.py": late})) == []


def test_long_files_and_full_folders_are_named(tmp_path):
    many = {f"probes/lens/_{n}.py": "" for n in range(MOST_FILES)}
    assert breaches(build(tmp_path, HOUSE | many | {"interp/errors.py": "pass\n" * (MOST_LINES + 1)})) == [
        "interp/errors.py has 301 lines, 300 at most: divide it.",
        "probes/lens/ holds 18 files, 17 at most: put those of one concern into a folder.",
    ]


# Words that a method has as a column too, and that mean something else in the workbench.
EVERYDAY = {
    *("bias", "byte", "category", "continuation", "expected", "k", "metric", "n_prompts", "n_tokens", "norm"),
    *(
        "parallel",
        "prompt",
        "reference",
        "scheme",
        "seconds",
        "statistic",
        "test",
        "text",
        "tokens",
        "value",
        "verdict",
    ),
    "vocabulary",
}


def test_the_workbench_names_no_probe_and_no_column_of_one():
    """Figures, claims and tables of a method stand with the method: a plug-in's are no worse off than ours."""
    methods = {name for name in registry.names() if registry.get(name).function.__module__.startswith("probes.")}
    columns = {column.name for name in methods for column in registry.get(name).schema.columns}
    findings = {column.name for column in registry.get("findings").schema.columns}
    theirs = (methods | columns) - set(VOCABULARY) - findings - EVERYDAY - set(get_args(SiteName))
    assert {"logit_lens", "intervention", "kl_to_final"} <= theirs
    found = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.value!r}"
        for path in sorted((REPOSITORY / "interp").rglob("*.py"))
        if "reference" not in path.parts
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and node.value in theirs
    ]
    assert found == []
