"""Look at the installed package on a Python for which there is no small torch.

python .ci/without_torch.py requirements   print what the package requires, less what requires torch itself
python .ci/without_torch.py check          compile all of it, import what it imports, and import it as far as that goes
"""

import ast
import importlib
import platform
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

# By the names to install and to import.
NEED_TORCH = {"torch": "torch", "transformer-lens": "transformer_lens", "nnsight": "nnsight", "captum": "captum"}
# accelerate comes with transformer-lens.
OPTIONAL = {"IPython", "accelerate", "bitsandbytes", "nltk", "pytest", "ray", "submitit"}
ELSEWHERE = {*NEED_TORCH.values(), *OPTIONAL, "interp", "probes"}


def requirements() -> list[str]:
    """The package's own requirements that do not require torch."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    return [one for one in project["dependencies"] if not one.startswith(tuple(NEED_TORCH))]


def imported(source: str) -> list[tuple[str, str]]:
    """Modules, and names of them, that a source imports from the standard library and other packages."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(one.name, "") for one in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [(node.module, one.name) for one in node.names]
    return [(module, name) for module, name in found if module.partition(".")[0] not in ELSEWHERE]


def there(module: str, name: str) -> bool:
    """Tell whether a module can be imported and has a name; true where only torch is missing for it."""
    try:
        found = importlib.import_module(module)
        return not name or hasattr(found, name) or find_spec(f"{module}.{name}") is not None
    except ModuleNotFoundError as error:
        return str(error.name).partition(".")[0] in ELSEWHERE


def check() -> None:
    """Raise at the first thing that this Python does not have."""
    site = Path(importlib.import_module("interp").__path__[0]).parent
    files = [file for package in ("interp", "probes") for file in sorted((site / package).rglob("*.py"))]
    asked = set()
    for file in files:
        source = file.read_text("utf-8")
        compile(source, str(file), "exec")
        asked.update(imported(source))
    for module, name in sorted(asked):
        if not there(module, name):
            raise ImportError(f"there is no {module}" + (f", or it has no {name!r}" if name else ""))
    importlib.import_module("interp.cli")
    print(f"Python {platform.python_version()}: {len(files)} files compiled, {len(asked)} imports of theirs found")


if __name__ == "__main__":
    if sys.argv[1:] == ["requirements"]:
        print(*requirements(), sep="\n")
    else:
        check()
