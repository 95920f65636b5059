"""Test all figures: their canvas, the axes of the caller, several models, captions, and fonts for any script."""

from __future__ import annotations

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from interp.display.figures import image
from interp.display.plotting import curve, dodged, figure, fonts, layer_axis, token_label
from interp.errors import InputError, UnknownName
from probes.geometry.plots import microscope

FRAME = pd.DataFrame(
    {
        "model": ["small"] * 4 + ["large"] * 6,
        "prompt_id": [0, 0, 1, 1, 0, 0, 0, 1, 1, 1],
        "layer": [0, 1, 0, 1, 0, 1, 2, 0, 1, 2],
        "norm": [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0],
    }
)


@figure
def norms(frame, canvas, *, scale: float = 1.0):
    left, right = canvas.grid(1, 2, (6.0, 3.0))[0]
    left.plot(frame["layer"], scale * frame["norm"], label="norm")
    right.hist(frame["norm"])
    canvas.title("norms")
    canvas.caption("no interval", "")


@figure(together=True)
def overlaid(frame, canvas):
    axes = canvas.one((4.0, 3.0))
    for name, rows in frame.groupby("model"):
        axes.plot(rows["layer"], rows["norm"], label=name)
    canvas.title("norms")
    canvas.legend(axes)


def test_pyplot_keeps_no_figure():
    """A notebook would show one twice: as what is returned, and as what is open when the cell ends."""
    before = plt.get_fignums()
    drawn = norms(FRAME, model="small")
    assert plt.get_fignums() == before
    assert len(drawn.axes) == 2 and drawn.get_size_inches()[0] == 6.0
    drawn.canvas.draw()  # and still it can be drawn
    assert drawn.axes[0].get_tightbbox().x0 > 0  # labels are inside: laid out


def test_nothing_stays_open_where_drawing_fails():
    before = plt.get_fignums()
    with pytest.raises(KeyError, match="layer"):
        microscope(pd.DataFrame({"run_id": ["a"], "control": ["none"], "model": ["a"]}))
    assert plt.get_fignums() == before


def test_several_models_stand_below_one_another_on_the_same_scale():
    drawn = norms(FRAME)
    assert len(drawn.axes) == 4 and len(drawn.subfigs) == 2
    assert [part.get_suptitle() for part in drawn.subfigs] == ["small: norms", "large: norms"]
    assert drawn.axes[0].get_ylim() == drawn.axes[2].get_ylim()
    assert drawn.axes[0].get_ylim()[1] >= 60 and drawn.axes[0].lines[0].get_ydata().max() == 4
    drawn.canvas.draw()
    first, second = (axes.get_tightbbox() for axes in (drawn.axes[0], drawn.axes[2]))
    assert first.y0 > second.y1  # and do not overlap
    single = norms(FRAME, model="small").get_size_inches()
    assert drawn.get_size_inches().tolist() == [single[0], 2 * single[1]]


def test_or_they_share_axes():
    drawn = overlaid(FRAME)
    assert len(drawn.axes) == 1 and len(drawn.axes[0].lines) == 2
    assert drawn.axes[0].get_title() == "norms"  # which belongs to neither
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["large", "small"]


def test_an_alternative_text_names_models_lines_and_the_caption():
    below, together = (image(drawn, "norms") for drawn in (norms(FRAME), overlaid(FRAME)))
    assert "small: norms; no interval; large: norms" in below
    assert "legend: large, small" in together


def test_it_draws_where_it_is_told():
    whole, axes = plt.subplots(2, 3)
    assert norms(FRAME, axes=axes[:, :2], scale=2.0) is whole
    assert axes[1, 0].lines[0].get_ydata().max() == 120 and not axes[0, 2].has_data()
    assert "small: norms" in axes[0, 0].get_title() and "no interval" in axes[0, 0].get_title()
    overlaid(FRAME, ax=axes[0, 2])
    assert len(axes[0, 2].lines) == 2 and axes[0, 2].get_legend() is not None
    plt.close(whole)


def test_a_model_and_a_prompt_are_selected():
    drawn = norms(FRAME, model="large", prompt_id=1)
    assert drawn.axes[0].lines[0].get_ydata().tolist() == [40.0, 50.0, 60.0]
    assert drawn.get_suptitle() == "large: norms"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"ax": 3}, InputError, "ax=3: give axes of matplotlib"),
        ({"axes": ["left"]}, InputError, "axes='left': give axes of matplotlib"),
        ({"model": "smal"}, UnknownName, "did you mean 'small'"),
        ({"prompt_id": 7}, InputError, r"prompt 7 is not in the frame; it holds \[0, 1\]"),
    ],
)
def test_what_is_not_there_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        norms(FRAME, **options)


def test_too_few_axes_are_refused():
    whole, (left, right) = plt.subplots(1, 2)
    with pytest.raises(InputError, match="1 axes was given: this figure draws on 2"):
        norms(FRAME, ax=left, model="small")
    with pytest.raises(InputError, match="1 axes was given for 2 models; give as many for each"):
        norms(FRAME, ax=left)
    with pytest.raises(InputError, match="both ax= and axes="):
        norms(FRAME, ax=left, axes=[right])
    with pytest.raises(InputError, match="not about single prompts"):
        norms(FRAME.drop(columns="prompt_id"), prompt_id=0)
    plt.close(whole)


def test_a_curve_has_a_band_and_bars_stand_aside():
    rows = pd.DataFrame({"x": [2, 1], "y": [4.0, 3.0], "y_low": [3.5, 2.0], "y_high": [5.0, 3.5]})
    _, axes = plt.subplots()
    curve(axes, rows, "x", "y", label="y")
    assert axes.lines[0].get_xdata().tolist() == [1, 2]
    band = axes.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in band} >= {(1, 2), (1, 3.5), (2, 3.5), (2, 5)}
    dodged(axes, [0.9, 1.1], rows.assign(y_low=np.nan, y_high=np.nan), "y", fmt="o")  # one prompt: points alone
    plt.close()


def test_an_axis_of_many_layers_has_ticks_that_can_be_read():
    _, axes = plt.subplots()
    layer_axis(axes, range(31))
    assert axes.get_xticks().tolist() == list(range(0, 31, 3))
    plt.close()


# -- fonts -----------------------------------------------------------------------------------------------------------

HAN = "中文"  # in none of the fonts that matplotlib brings


@pytest.fixture
def without_han(monkeypatch):
    """matplotlib's own fonts alone, whatever is installed here."""
    own = [font for font in font_manager.fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    _forget()
    yield
    _forget()


def _forget() -> None:
    for part in (fonts._font_with, fonts._installed, fonts._file_of):
        part.cache_clear()


@pytest.fixture
def with_han(without_han, tmp_path):
    """The same, and a font of two characters."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(point)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "han"])
    builder.setupCharacterMap({ord(one): "han" for one in HAN})
    builder.setupGlyf({name: pen.glyph() for name in (".notdef", "han")})
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", "han"), (900, 50)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Two Characters", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    file = tmp_path / "two.ttf"
    builder.save(file)
    font_manager.fontManager.addfont(str(file))
    _forget()


@figure
def labelled(frame, canvas):
    axes = canvas.one((4.0, 3.0))
    axes.text(0.5, 0.5, token_label(frame["token"].iat[0]))
    axes.set_xticks([0], [token_label(frame["token"].iat[0])])
    canvas.title(frame["token"].iat[0])


def drawn_texts() -> tuple[list[str], list[list[str]]]:
    """The texts of a figure with two Chinese characters, and their fonts; a warning is an error."""
    drawn = labelled(pd.DataFrame({"model": ["m"], "token": [HAN]}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn.canvas.draw()
    (axes,) = drawn.axes
    texts = [axes.texts[0], axes.get_xticklabels()[0], axes.title]
    return [one.get_text() for one in texts], [one.get_fontfamily() for one in texts]


def test_an_installed_font_draws_what_the_usual_one_lacks(with_han):
    texts, families = drawn_texts()
    assert texts == [HAN, HAN, f"m: {HAN}"]
    assert all(family[-1] == "Two Characters" and len(family) == 2 for family in families)


def test_without_one_the_code_is_shown(without_han):
    texts, families = drawn_texts()
    assert texts == ["\\u4e2d\\u6587"[:8] + "…", "\\u4e2d\\u6587"[:8] + "…", "m: \\u4e2d\\u6587"]
    assert all(len(family) == 1 for family in families)


def test_labels_are_cut_by_the_room_they_take(with_han):
    assert token_label(HAN * 3, 9) == HAN * 2 + "…"
    assert token_label("understanding", 9) == "understa…" and token_label("a$b") == r"a\$b"
