"""The notebook: it runs from top to bottom on a finished run, and is committed without what it shows."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.project import ROOT

TOUR = ROOT / "notebooks" / "tour.ipynb"


def _tour() -> Any:
    return nbformat.read(TOUR, as_version=4)  # type: ignore[no-untyped-call]


@pytest.mark.tensorflow
def test_the_tour_runs_from_top_to_bottom(finished: Path) -> None:
    """Started in its own folder, it plays and draws a clip and its features, and scores the model."""
    notebook = _tour()
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": finished / "notebooks"}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    shown = [output.data for output in outputs if "data" in output]
    assert sum("image/png" in data for data in shown) == 4
    assert sum("<audio" in data.get("text/html", "") for data in shown) == 4
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "24 clips of go, stop, yes" in said
    assert "test clips" in said


def test_the_tour_is_committed_without_outputs() -> None:
    """No cell has outputs or was counted, so that a look at it leaves no trace in git."""
    cells = [cell for cell in _tour().cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
