"""What the README shows is run as it stands there."""

import re
from pathlib import Path

from interp import registry

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_python_snippets_run():
    names: dict[str, object] = {}
    snippets = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert snippets
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert "kl_to_final" in names["frame"].columns


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets


def test_every_installed_probe_of_ours_is_in_the_table():
    table = set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE))
    ours = {name for name in registry.names() if registry.get(name).function.__module__.startswith("probes.")}
    assert table == ours


def test_linked_files_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
