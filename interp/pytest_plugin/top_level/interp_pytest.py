"""Load the pytest plugin of `interp`, unless a module of the user's own hides the package.

pytest imports every installed plugin at start, whatever it is asked to test. A project with an `interp.py` or an
`interp/` of its own would end there, or find this package in place of its own. This module stands outside `interp`, so
that it can be imported, say in one sentence what is hidden, and let that project's tests run without the plugin.
"""

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType


def hidden_by() -> str | None:
    """Return the file or folder that hides the package `interp`; None if nothing does.

    Nothing is imported, so that no code of the user's runs. The working folder counts whether or not it is on the path
    yet: pytest may add it later.
    """
    found = PathFinder.find_spec("interp", [str(Path.cwd()), *sys.path])
    if found is None or PathFinder.find_spec("interp.pytest_plugin", found.submodule_search_locations or []):
        return None
    return found.origin or "a folder"


def load_plugin() -> ModuleType:
    """Return the module `interp.pytest_plugin`, or an empty one where something hides it."""
    hiding = hidden_by()
    if hiding is None:
        import interp.pytest_plugin

        return interp.pytest_plugin
    if "PYTEST_XDIST_WORKER" not in os.environ:  # once, not by every worker
        sys.stderr.write(
            f"interp: {hiding!r} hides the package 'interp' of interp-probes, whose pytest plugin is left out: rename "
            "it to have the plugin, or give pytest '-p no:interp' to have this silent.\n"
        )
    return ModuleType("interp_hidden")


plugin = load_plugin()
