"""The stage `export`: its results, and how it fails."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.features.logmel import LogMel
from pipeline.learning.batches import Subset
from pipeline.serving.export import PATHS, Export, Format
from pipeline.stages.export import Trained, _compared
from pipeline.store.layout import describe
from tests.learning.make import MODELS, PARAMS, subset_of
from tests.project import Project, read_csv
from tests.serving import make
from tests.store.make import make_store

pytestmark = pytest.mark.tensorflow

EXPORT = (sys.executable, "-m", "pipeline.stages.export")


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Project:
    """A copy of the finished run that exports to LiteRT."""
    project = Project(tmp_path / "home" / "project", copied=finished)
    project.set_params({"export.formats": ["litert"]})
    return project


def _replace(project: Project, path: str, old: str, new: str) -> None:
    file = project.path / path
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_every_format_is_in_the_results_and_on_the_report(project: Project) -> None:
    """Each format has its difference, accuracy and bytes, DVC shows them, and speeds stay out of outputs."""
    project.set_params({"export.formats": list(PATHS), "feature": "logmel", "models.rnn.units": 4})
    ran = project.repro()
    assert {"train", "evaluate", "export", "report"} == ran
    results = json.loads((project.path / "results/export.json").read_text())
    assert list(results) == list(PATHS)
    scores = json.loads((project.path / "results/metrics.json").read_text())
    assert "too large for such a device" in results.pop("micro")["reason"]
    for name, result in results.items():
        assert result.keys() == {"max_difference", "accuracy", "bytes"}
        assert result["max_difference"] <= (1e-4 if name in ("saved_model", "litert", "onnx") else 0.1)
        assert result["accuracy"] == pytest.approx(scores["accuracy"], abs=0.5)
        assert result["bytes"] > 1000
    assert results["litert"]["bytes"] == (project.path / "models/export/model.tflite").stat().st_size
    shown = json.loads(project.run("dvc", "metrics", "show", "--json"))[""]["data"]
    assert {name: shown["results/export.json"]["data"][name] for name in results} == results
    page = (project.path / "results/report.html").read_text(encoding="utf-8")
    assert f"<td>litert_int8</td><td>{100 * results['litert_int8']['accuracy']:.1f} %</td>" in page
    speeds = read_csv(project.path / "logs/exports.csv")
    assert [row["format"] for row in speeds] == ["saved_model", "litert", "litert_int8", "onnx"]
    assert all(0 < float(row["median_ms"]) <= float(row["p95_ms"]) for row in speeds)
    assert all(float(row["clips_per_second"]) > 0 for row in speeds)


def test_a_front_end_that_computes_something_else_stops_the_run(project: Project) -> None:
    """If the layer differs from the stored feature, export names a clip and leaves nothing behind."""
    _replace(project, "pipeline/features/stft.py", "return ops.sqrt(", "return 3 * ops.sqrt(")
    before = sorted((project.path / "models").rglob("*"))
    output = project.fails(*EXPORT)
    assert "Traceback" not in output
    assert "litert is not what was trained: a probability of the clip " in output
    assert "expected at most 0.0001" in output
    tested = {row["clip"] for row in read_csv(project.path / "results/predictions.csv")}
    assert any(f"of the clip {clip} differs by" in output for clip in tested)
    assert sorted((project.path / "models").rglob("*")) == before


def test_a_feature_without_a_layer_is_not_exported(project: Project) -> None:
    """The run goes on, the result says why nothing was exported, and `predict` says where to look."""
    _replace(project, "pipeline/features/stft.py", "def graph(", "def unused(")
    shutil.rmtree(project.path / "models/export")
    output = project.run(*EXPORT)
    assert "nothing is exported: features of kind stft cannot be computed inside a model" in output
    reason = json.loads((project.path / "results/export.json").read_text())["reason"]
    assert "implement `graph` in pipeline/features/stft.py" in reason
    project.run(sys.executable, "-m", "pipeline.stages.report")
    assert "cannot be computed inside a model" in (project.path / "results/report.html").read_text()
    assert "see in results/export.json why" in project.fails("python", "-m", "pipeline", "predict", "x.wav")


def _trained(folder: Path, right: Any) -> Trained:
    """Return what a model says whose probabilities are `right`, of the clips that `make` has."""
    clips = make.waveforms()
    names = [f"{make.LABELS[n % 3]}/{n:02}" for n in range(len(clips))]
    feature = LogMel(kind="logmel", **make.BANDS)
    values = feature.kernel(make.AUDIO["sample_rate"])(clips)
    make_store(folder / "x.h5", values, clips=sorted(names), params=PARAMS)
    test: Subset = subset_of(describe(folder / "x.h5"))
    return Trained(clips, test, right)


@pytest.mark.parametrize("name", ["litert_int8", "micro"])
def test_int8_that_gets_many_clips_wrong_stops_the_run(
    name: Format, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If int8 is wrong more often than allowed, the message says how often and names a clip.

    For a recurrent network it is a warning.
    """
    make.export(tmp_path, MODELS["dscnn"], make.FEATURES["logmel"], name)
    path = tmp_path / PATHS[name]
    trained = _trained(tmp_path, None)
    targets = np.eye(3)[trained.test.targets]
    settings = Export(formats=[name], calibration_clips=1, max_int8_loss=0.01)
    # The clips of the store are sorted, and so in another order than the waveforms: most are wrong.
    perfect = Trained(trained.waveforms, trained.test, targets)
    with pytest.raises(
        PipelineError,
        match=rf"{name} gets \d+ more of 24 test clips wrong .* such as \w+/\d\d; export\.max_int8_loss",
    ):
        _compared(name, path, perfect, settings)
    scores = _compared(name, path, perfect, settings.model_copy(update={"max_int8_loss": 1.0}))
    assert "warning" not in capsys.readouterr().out
    warned = _compared(name, path, perfect, settings, recurrent=True)
    assert re.match(rf"{name} gets \d+ more of 24 test clips wrong", warned.pop("warning"))
    assert warned == scores
    assert f"warning: {name} gets" in capsys.readouterr().out
    assert scores["accuracy"] < 0.9
    assert scores["max_difference"] > 0.5
