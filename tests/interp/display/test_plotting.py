"""Figures as all probes make them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from interp.display.plotting import new_figure, new_grid
from probes.geometry.plots import microscope


def test_pyplot_keeps_no_figure():
    """A notebook would show one twice: as what is returned, and as what is open when the cell ends."""
    before = plt.get_fignums()
    figure, axes = new_figure((4.0, 3.0))
    axes.plot([0, 1], [0, 1])
    assert plt.get_fignums() == before
    assert figure.axes == [axes] and figure.get_size_inches().tolist() == [4.0, 3.0]
    figure.canvas.draw()  # and still it can be drawn
    assert axes.get_tightbbox().x0 > 0  # labels are inside: laid out


def test_nothing_stays_open_where_drawing_fails():
    before = plt.get_fignums()
    with pytest.raises(KeyError, match="layer"):
        microscope(pd.DataFrame({"run_id": ["a"], "control": ["none"]}))
    assert plt.get_fignums() == before


@pytest.mark.parametrize(("sharex", "sharey"), [(False, True), (True, False), (False, False)])
def test_a_grid_has_its_rows_and_columns_whatever_they_are(sharex, sharey):
    for shape in ((1, 1), (1, 3), (3, 1), (2, 2)):
        figure, grid = new_grid(*shape, (6.0, 4.0), sharex=sharex, sharey=sharey)
        assert grid.shape == shape and figure.axes == list(grid.flat)
        grid[0, 0].set_xlim(0, 7)
        grid[0, 0].set_ylim(0, 5)
        assert (grid[-1, -1].get_xlim() == (0, 7)) == (sharex or shape == (1, 1))
        assert (grid[-1, -1].get_ylim() == (0, 5)) == (sharey or shape == (1, 1))
