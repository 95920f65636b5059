"""Run the `interp` command as `python -m interp.cli`."""

from interp.cli import app

app(prog_name="interp")
