"""Make the README's links absolute in the package's metadata, since PyPI shows it far from its files.

The address is the one that GitHub's own builds name (GITHUB_SERVER_URL, GITHUB_REPOSITORY, GITHUB_SHA). A build
elsewhere leaves the links as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)]+)\)")


class Readme(MetadataHookInterface):
    """The README as PyPI shows it."""

    def update(self, metadata: dict[str, object]) -> None:
        """Set the project's readme."""
        text = (Path(self.root) / "README.md").read_text("utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, os.environ)}


def absolute(text: str, environment: Mapping[str, str]) -> str:
    """Return Markdown whose links lead to the files of the commit that is built; pictures to the files themselves."""
    named = [environment.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "SHA")]
    if not all(named):
        return text
    server, repository, commit = named

    def lead(link: re.Match[str]) -> str:
        picture, words, path = link.groups()
        return f"{picture}[{words}]({server}/{repository}/{'raw' if picture else 'blob'}/{commit}/{path})"

    return _LINK.sub(lead, text)
