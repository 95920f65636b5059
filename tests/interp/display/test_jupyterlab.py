"""A session in a real JupyterLab, seen through headless Chromium: load the extension, run a magic, hover over a token.

`make lab` installs JupyterLab into an environment of its own and sets INTERP_JUPYTERLAB to its program; the kernel is
the Python of the tests.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from . import chromium

pytestmark = pytest.mark.slow
CELLS = ["%load_ext interp", '%interp logit_lens "Once upon a time there was a little dog"']
_PATIENCE = 180  # seconds; a kernel that imports torch on a busy machine takes most of a minute


@pytest.fixture
def lab(tmp_path):
    """Give the address of a notebook of these cells in a running JupyterLab."""
    program = os.environ.get("INTERP_JUPYTERLAB", "")
    if not program or chromium.PROGRAM is None:
        pytest.skip("a session in JupyterLab needs Chromium on the path and INTERP_JUPYTERLAB, which `make lab` sets")
    kernel = tmp_path / "data" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "tests", "language": "python"}))
    (folder := tmp_path / "notebooks").mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "tests", "language": "python"}
    nbformat.write(notebook, folder / "session.ipynb")
    places = {"JUPYTER_PATH": str(tmp_path / "data")} | {
        f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "RUNTIME", "DATA")
    }
    command = [
        program, "--no-browser", "--allow-root", "--port=0", "--IdentityProvider.token=",
        f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True",
        "--KernelSpecManager.ensure_native_kernel=False",
    ]  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | places, stdout=log, stderr=log)
    try:
        address = until(lambda: re.search(r"http://\S+:\d+/", (tmp_path / "log").read_text()))
        yield f"{address[0]}lab/tree/session.ipynb"
    finally:
        server.terminate()
        server.wait(30)


def until(ask):
    """Ask until there is an answer."""
    ends = time.monotonic() + _PATIENCE
    while time.monotonic() < ends:
        if answer := ask():
            return answer
        time.sleep(0.5)
    pytest.fail(f"no answer within {_PATIENCE} s")


def test_a_magic_shows_tokens_that_answer_the_mouse(lab):
    """Tell that the tip under the mouse is the position's own, and that no cell ended in an error."""
    with chromium.Browser(1400, 1000) as page:
        page.send("Page.navigate", url=lab)
        ready = "!!(window.jupyterapp && document.querySelector('.jp-Notebook .jp-CodeCell'))"
        until(lambda: page.ask(ready))
        accept = "document.querySelector('.jp-Dialog .jp-mod-accept')?.click()"  # it may ask which kernel to take
        kernel = "!!jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
        until(lambda: page.ask(f"{accept}, {kernel}"))
        page.ask("void jupyterapp.commands.execute('notebook:run-all-cells')")
        token = "figure span[title^='position 3']"
        until(lambda: page.ask(f"!!document.querySelector({json.dumps(token)})"))
        page.move(token)
        tip = page.ask("[...document.querySelectorAll(':hover')].at(-1).title")
        assert re.fullmatch(r"position 3: [\d.e-]+ nats(, of .*)?", tip)
        assert not page.ask("!!document.querySelector('.jp-OutputArea-output[data-mime-type*=\"error\"]')")
        if folder := os.environ.get("INTERP_SCREENSHOTS"):
            page.picture(Path(folder) / "jupyterlab.png")
