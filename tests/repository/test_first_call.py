"""The first call of a process waits for nothing that it does not use."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from interp.probes import logit_lens
logit_lens("reference", "Once upon a time")
print(sorted({"nnsight", "pandera", "scipy.stats", "sklearn"} & set(sys.modules)))
"""


def test_the_first_lens_imports_no_statistics_and_one_backend():
    """Together they take two seconds to import, a third of the first call."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
