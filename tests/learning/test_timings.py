"""How long each training took."""

from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.learning import timings


def test_a_queued_training_is_known_to_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training in a copy below the project's .dvc/tmp is recorded in the project's own file."""
    queued = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1"
    queued.mkdir(parents=True)
    for folder, content, seconds in ((tmp_path, b"one", 12.34), (queued, b"two", 5.0)):
        monkeypatch.chdir(folder)
        Path("model.keras").write_bytes(content)
        timings.note(Path("model.keras"), seconds)
    expected = {"f97c5d29941bfb1b2fdab0874906ab82": 12.3, "b8a9f715dbb64fd5c56e7783c6820a61": 5.0}
    assert timings.seconds() == expected
    monkeypatch.chdir(tmp_path)
    assert timings.seconds() == expected
    assert not (queued / "logs").exists()


def test_without_a_training_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing was trained yet, there are no times."""
    monkeypatch.chdir(tmp_path)
    assert timings.seconds() == {}


def test_times_that_were_edited_by_hand_are_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the line and the column, and says that the file may be deleted."""
    monkeypatch.chdir(tmp_path)
    Path("model.keras").write_bytes(b"one")
    timings.note(Path("model.keras"), 1.5)
    with Path("logs/trainings.csv").open("a") as file:
        file.write("x,nan\n")
    with pytest.raises(PipelineError, match=r"trainings\.csv, line 3, column model_md5: .* or delete it"):
        timings.seconds()


def test_the_latest_speeds_of_an_export_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds are found by the model's md5 and the format. A later export of the same model replaces them."""
    monkeypatch.chdir(tmp_path)
    Path("model.keras").write_bytes(b"one")
    timings.note_speeds(Path("model.keras"), {"litert": (1.5, 2.0, 700.0), "onnx": (3.0, 4.0, 400.0)})
    timings.note_speeds(Path("model.keras"), {"litert": (1.25, 1.75, 800.0)})
    speeds = timings.speeds()["f97c5d29941bfb1b2fdab0874906ab82"]
    assert speeds["litert"] == {"median_ms": 1.25, "p95_ms": 1.75, "clips_per_second": 800.0}
    assert speeds["onnx"]["median_ms"] == 3.0
