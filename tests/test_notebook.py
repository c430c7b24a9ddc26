"""The notebook runs from top to bottom on a finished run, and is committed without outputs."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.project import ROOT, Project, read_csv

TOUR = ROOT / "notebooks" / "tour.ipynb"


def _tour() -> Any:
    return nbformat.read(TOUR, as_version=4)  # type: ignore[no-untyped-call]


@pytest.mark.tensorflow
def test_the_tour_runs_from_top_to_bottom(finished: Path, tmp_path: Path) -> None:
    """Started in its own folder, it shows and plays a clip and its features, and predicts the test clips.

    It also prints how far tf.signal.stft and librosa.stft differ: by less than a millionth of the largest
    magnitude.
    """
    project = Project(tmp_path / "project", copied=finished)
    project.export()
    notebook = _tour()
    resources = {"metadata": {"path": project.path / "notebooks"}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    displayed = [output.data for output in outputs if "data" in output]
    # A waveform, four features and two transforms; the transforms have no player.
    assert sum("image/png" in data for data in displayed) == 7
    assert sum("<audio" in data.get("text/html", "") for data in displayed) == 5
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "54 clips, such as yes/" in printed
    assert "test clips" in printed
    first = read_csv(finished / "results/predictions.csv")[0]
    assert re.search(rf"^data/raw/{re.escape(first['clip'])} +{first['prediction']} ", printed, re.MULTILINE)
    numbers = re.search(r"^largest difference (\S+), largest magnitude (\S+)$", printed, re.MULTILINE)
    assert numbers
    difference, magnitude = map(float, numbers.groups())
    assert 0 < difference < 1e-6 * magnitude


def test_the_tour_is_committed_without_outputs() -> None:
    """No cell has outputs or an execution count, so that the diff of a commit shows only code and text."""
    cells = [cell for cell in _tour().cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
