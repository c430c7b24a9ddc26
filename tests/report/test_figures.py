"""Figures are written as the same bytes, in the colours of the page."""

import re
import warnings
from pathlib import Path

import pytest

from pipeline.report.figures import INK, blank, styled, svg, write_png


def _figure(label: str = "time (s)") -> str:
    with styled():
        figure = blank(3, 2)
        axes = figure.subplots()
        axes.plot([0, 1], [1, 0])
        axes.set_xlabel(label)
        return svg(figure, f'the name <"{label}">')


def test_an_svg_has_the_same_bytes_each_time() -> None:
    """An SVG contains no date, version or random id."""
    content = _figure()
    assert content == _figure()
    assert not re.search(r"matplotlib|\d{4}-\d\d-\d\d|<metadata", content, re.IGNORECASE)


def test_an_svg_has_the_colour_of_the_surrounding_text() -> None:
    """Lines and text have the page's colour, and none of them is black or white."""
    content = _figure()
    assert "currentColor" in content
    assert INK not in content
    assert not re.search(r"#000000|#ffffff|\bblack\b|\bwhite\b", content)


def test_labels_are_shown_as_plain_text() -> None:
    """A label that looks like a formula or like HTML is shown as text."""
    content = _figure("$a_b$ & <c>")
    assert "$a_b$ &amp; &lt;c&gt;" in content
    assert 'aria-label="the name &lt;&quot;$a_b$ &amp; &lt;c&gt;&quot;&gt;"' in content


def test_a_label_in_any_script_is_written_without_a_warning() -> None:
    """A label with characters that matplotlib's font does not have is in the SVG as text."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "はい" in _figure("はい")


def test_a_png_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    """A PNG contains no date or version."""
    for name in ("one", "two"):
        with styled("black"):
            figure = blank(2, 1)
            figure.subplots().plot([0, 1])
            write_png(figure, tmp_path / name)
    content = (tmp_path / "one").read_bytes()
    assert content == (tmp_path / "two").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert b"atplotlib" not in content


@pytest.mark.parametrize("background", ["#ffffff", "#1c1f24"])
def test_lines_stand_out_from_the_background(background: str) -> None:
    """Each line's colour has a contrast above 2 to 1 with the page's cards, light and dark."""
    from matplotlib.colors import to_rgb

    from pipeline.report.figures import COLORS

    def luminance(color: str) -> float:
        channels = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
        return sum(a * b for a, b in zip(channels, (0.2126, 0.7152, 0.0722), strict=True))

    for color in COLORS:
        low, high = sorted((luminance(color), luminance(background)))
        assert (high + 0.05) / (low + 0.05) > 2
