"""How a picture is drawn and written: on paper of any colour, and the same bytes each time.

A picture on the page is SVG whose lines and letters take the colour of the text around them, so that it
reads in light and dark. matplotlib's Figure is used without pyplot: nothing here needs a screen.
"""

import html
import io
import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure

# Stands for the colour of the surrounding text until the SVG is written.
INK = "#123456"
# Of lines and bars, to be told apart on white and on black, by colour-blind eyes too: Okabe & Ito 2008.
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
    """Return a context in which figures are made and drawn into, with lines and letters of colour `ink`."""
    return mpl.rc_context({**STYLE, **dict.fromkeys(INKED, ink)})


def blank(width: float, height: float) -> Figure:
    """Return an empty figure of `width` by `height` inches, at 96 pixels each on a page."""
    return Figure(figsize=(width, height), layout="constrained")


def svg(figure: Figure, name: str) -> str:
    """Return `figure` as an `<svg>` element to stand in a page, said to be `name` to who cannot see it."""
    content = _written(figure, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = content.decode("utf-8")
    text = text[text.index("<svg ") :].replace(INK, "currentColor")
    # Only what is referred to needs an id, and a page has one of each.
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(name)}" ', 1)


def write_png(figure: Figure, path: Path) -> None:
    """Write `figure` on white."""
    path.write_bytes(_written(figure, format="png", facecolor="white", metadata={"Software": None}))


def _written(figure: Figure, **how: Any) -> bytes:
    file = io.BytesIO()
    with styled(), warnings.catch_warnings():
        # A label in letters that matplotlib's font is without: a browser has others.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, **how)
    return file.getvalue()
