"""`python -m pipeline crossval`."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.commands import crossval
from pipeline.store.layout import describe
from tests.project import Project, read_csv
from tests.store.make import change_row


def test_mean_and_deviation_are_those_of_a_sample() -> None:
    """Mean and deviation over the folds; the deviation has n - 1 as its divisor."""
    found = [{"accuracy": a, "macro_f1": a / 2, "loss": 1.0} for a in (0.8, 0.9, 1.0)]
    summary = crossval.summarise(found)
    assert summary["accuracy"] == pytest.approx({"mean": 0.9, "deviation": 0.1})
    assert summary["macro_f1"] == pytest.approx({"mean": 0.45, "deviation": 0.05})
    assert summary["loss"] == {"mean": 1.0, "deviation": 0.0}


@pytest.mark.tensorflow
def test_every_clip_is_tested_once(finished: Path, tmp_path: Path) -> None:
    """Three folds test every clip once, and a second run writes the same file."""
    project = Project(tmp_path / "home" / "project", copied=finished)
    written = []
    for _ in range(2):
        output = project.run("python", "-m", "pipeline", "crossval", "--folds", "3")
        written.append((project.path / "results/crossval.json").read_bytes())
    result = json.loads(written[0])
    clips = sum(bool(row["label"]) for row in read_csv(project.path / "data/split.csv"))
    assert sum(fold["clips"] for fold in result["folds"]) == clips
    accuracies = [fold["accuracy"] for fold in result["folds"]]
    assert result["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert f"deviation over the folds {np.std(accuracies, ddof=1):.4f}" in output
    assert all(fold["low_95"] <= fold["accuracy"] <= fold["high_95"] for fold in result["folds"])
    assert written[0] == written[1]
    assert "--folds must be at least 3" in project.fails(
        "python", "-m", "pipeline", "crossval", "--folds", "2"
    )
    row = read_csv(project.path / "data/split.csv")[-1]
    path = project.path / "data/features/stft.h5"
    change_row(path, describe(path).clips.index(row["clip"]))
    assert f"the row of {row['clip']} has changed since it was written" in project.fails(
        "python", "-m", "pipeline", "crossval", "--folds", "3"
    )
