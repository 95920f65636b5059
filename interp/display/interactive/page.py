"""A piece of HTML that a notebook shows and that can be saved as a file of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from interp.checks import checked
from interp.data.writing import written

_DOCUMENT = Markup('<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{}</title><body>{}</body></html>\n')
_FRAME = Markup(
    '<iframe title="{}" srcdoc="{}" sandbox="allow-scripts" style="width:100%;height:{}px;border:0"></iframe>'
)


@checked
@dataclass(frozen=True)
class Page:
    """A piece of HTML: the last value of a notebook's cell shows it, and `save` writes it as a file.

    Attributes:
        title: of the file, and of the frame in a notebook.
        html: a fragment without scripts, or a whole document if it has a height.
        height: pixels of the frame that a notebook shows a document in: its scripts reach nothing outside. 0 for a
            fragment, which stands in the notebook itself.
    """

    title: str
    html: str
    height: int = 0

    def _repr_html_(self) -> str:
        if self.height:
            return str(_FRAME.format(self.title, self.html, self.height))
        return str(Markup('<div style="overflow-x:auto;max-width:100%">{}</div>').format(Markup(self.html)))

    def save(self, path: str | Path) -> Path:
        """Write one HTML file that loads nothing else, and return its path.

        Raises:
            InputError: the folder does not exist, or the path is a folder.
        """
        document = self.html if self.height else str(_DOCUMENT.format(self.title, Markup(self.html)))
        with written(path, "the page") as file:
            file.write(document.encode())
        return Path(path)
