"""How pictures are written."""

import re
import warnings
from pathlib import Path

import pytest

from pipeline.report.figures import INK, blank, styled, svg, write_png


def _picture(label: str = "time (s)") -> str:
    with styled():
        figure = blank(3, 2)
        axes = figure.subplots()
        axes.plot([0, 1], [1, 0])
        axes.set_xlabel(label)
        return svg(figure, f'the name <"{label}">')


def test_a_picture_is_the_same_bytes_each_time() -> None:
    """No date, version or random id is in it."""
    one = _picture()
    assert one == _picture()
    assert not re.search(r"matplotlib|\d{4}-\d\d-\d\d|<metadata", one, re.IGNORECASE)


def test_its_ink_is_that_of_the_text_around() -> None:
    """Lines and letters have the page's colour, so that it reads on any paper; none is black or white."""
    content = _picture()
    assert "currentColor" in content
    assert INK not in content
    assert not re.search(r"#000000|#ffffff|\bblack\b|\bwhite\b", content)


def test_words_are_shown_as_they_are() -> None:
    """A label like a formula is not set as one, and what looks like HTML stays text."""
    content = _picture("$a_b$ & <c>")
    assert "$a_b$ &amp; &lt;c&gt;" in content
    assert 'aria-label="the name &lt;&quot;$a_b$ &amp; &lt;c&gt;&quot;&gt;"' in content


def test_letters_that_the_font_is_without_are_no_warning() -> None:
    """Labels in any script are drawn, silently: a browser has the fonts."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "はい" in _picture("はい")


def test_an_image_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    """A PNG on white has no date or version in it either."""
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
def test_lines_are_told_from_the_paper(background: str) -> None:
    """Each line's colour has a contrast of 2 to 1 at least with the page's cards, light and dark."""
    from matplotlib.colors import to_rgb

    from pipeline.report.figures import COLORS

    def luminance(color: str) -> float:
        channels = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
        return sum(a * b for a, b in zip(channels, (0.2126, 0.7152, 0.0722), strict=True))

    for color in COLORS:
        low, high = sorted((luminance(color), luminance(background)))
        assert (high + 0.05) / (low + 0.05) > 2
