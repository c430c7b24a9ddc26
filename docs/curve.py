"""Draw the learning curve: `python -m docs.curve` writes docs/curve.png from a table in docs/experiments.md.

Draw it again after a change of the table under the heading of `HEADING`.
"""

import sys
from pathlib import Path

from pipeline.report.figures import blank, styled, write_png

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "experiments.md"
PICTURE = ROOT / "docs" / "curve.png"
HEADING = "## How many recordings does a word need?"


def main() -> None:
    """Write the picture, or exit with a message that says what is missing."""
    names, rows = _table(TABLE.read_text(encoding="utf-8"))
    with styled(ink="#1c1e21"):
        figure = blank(5.5, 3.4)
        axes = figure.subplots()
        # Each model has two columns: the mean, and the deviation over the seeds.
        for column in range(1, len(names), 2):
            label = names[column].partition(",")[0].strip("` ")
            points = [(row[0], *row[column : column + 2]) for row in rows if row[column]]
            clips, means, deviations = zip(*(map(float, point) for point in points), strict=True)
            axes.errorbar(clips, means, deviations, label=label, marker="o", markersize=4, capsize=3)
        axes.set_xscale("log")
        axes.set_xticks([float(row[0]) for row in rows], [row[0] for row in rows])
        axes.minorticks_off()
        axes.set(xlabel="training clips of each word", ylabel="test accuracy")
        axes.grid(visible=True, axis="y")
        axes.legend(loc="lower right")
        write_png(figure, PICTURE)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes")


def _table(text: str) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the first table under `HEADING`."""
    lines = text.partition(HEADING)[2].splitlines()
    first = next((number for number, line in enumerate(lines) if line.startswith("|")), None)
    if first is None:
        sys.exit(f"{TABLE.relative_to(ROOT)} has no table under {HEADING!r}: adapt HEADING to the text")
    cells = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        cells.append([cell.strip() for cell in line.strip("|").split("|")])
    header, _, *rows = cells
    return header, rows


if __name__ == "__main__":
    main()
