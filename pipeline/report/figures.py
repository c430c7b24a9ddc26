"""Draw figures for light and dark pages, and write them as the same bytes each time.

A figure on a page is SVG. Its lines and text have the colour of the text around it, so it is readable on any
background. The figures do not use pyplot, so they need no screen.
"""

import html
import io
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from cycler import cycler

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A placeholder, which `svg` replaces by the colour of the surrounding text.
INK = "#123456"
# The colours of lines and bars. Colour-blind readers can distinguish them, on white and on black: Okabe & Ito
# 2008.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c8c8c")
STYLE: dict[Any, Any] = {
    "axes.facecolor": "none",
    "axes.formatter.use_mathtext": False,
    "axes.grid": False,
    "axes.labelsize": 9,
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "grid.alpha": 0.25,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "savefig.dpi": 100,
    "svg.fonttype": "none",
    "svg.hashsalt": "pipeline",
    "text.parse_math": False,  # a label may have any name
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
# The settings of matplotlib that get the colour `ink`.
INKED: tuple[Any, ...] = (
    "axes.edgecolor",
    "axes.labelcolor",
    "grid.color",
    "legend.labelcolor",
    "text.color",
    "xtick.color",
    "ytick.color",
)


def styled(ink: str = INK) -> Any:
    """Return a context manager in which to make and draw figures, with lines and text of colour `ink`."""
    return mpl.rc_context({**STYLE, **dict.fromkeys(INKED, ink)})


def blank(width: float, height: float) -> "Figure":
    """Return an empty figure of `width` by `height` inches. On a page, an inch is 96 pixels."""
    from matplotlib.figure import Figure  # slow to import, and `python -m pipeline check` draws nothing

    return Figure(figsize=(width, height), layout="constrained")


def svg(figure: "Figure", name: str) -> str:
    """Return `figure` as an `<svg>` element for a page. `name` describes it to screen readers."""
    content = _render(figure, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = content.decode("utf-8")
    text = text[text.index("<svg ") :].replace(INK, "currentColor")
    # Remove ids that nothing refers to: an id may occur only once on a page.
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(name)}" ', 1)


def write_png(figure: "Figure", path: Path) -> None:
    """Write `figure` to `path` as a PNG with a white background."""
    path.write_bytes(_render(figure, format="png", facecolor="white", metadata={"Software": None}))


def _render(figure: "Figure", **options: Any) -> bytes:
    """Return `figure` as a file. `options` are those of matplotlib's `savefig`."""
    file = io.BytesIO()
    with styled(), warnings.catch_warnings():
        # A label may have characters that matplotlib's font does not have. Browsers have other fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, **options)
    return file.getvalue()
