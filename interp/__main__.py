"""Run the `interp` command as `python -m interp`, where its folder is not on the shell's path."""

from interp.cli import app

app(prog_name="interp")
