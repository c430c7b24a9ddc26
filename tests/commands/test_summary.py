"""`python -m pipeline summary`."""

import json
import sys
from pathlib import Path

import pytest

from pipeline.commands import summary
from pipeline.errors import PipelineError
from tests.project import Project, pipeline

SCORES = {
    "accuracy": 0.8125,
    "macro_f1": 0.75,
    "loss": 0.5,
    "clips": 48,
    "low_95": 0.7,
    "high_95": 0.9,
    "epoch": 3,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with parameters and no results."""
    (tmp_path / "params.yaml").write_text("{dataset: own, feature: mfcc, model: cnn}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_scores_of_the_last_run_are_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data set, feature, model and scores are those of params.yaml and metrics.json."""
    (folder / "results").mkdir()
    (folder / "results/metrics.json").write_text(json.dumps(SCORES))
    summary.main([])
    printed = capsys.readouterr().out
    assert "own: mfcc → cnn, 48 test clips" in printed
    assert "accuracy  0.812   95% confidence interval 0.700 to 0.900" in printed
    assert "macro F1  0.750" in printed
    assert "loss      0.500 nats" in printed
    assert "in noise" not in printed
    others = {"noisy": 0.61, "words_accuracy": 0.92, "unknown_as_word": 3, "silence_as_word": 0}
    (folder / "results/metrics.json").write_text(json.dumps({**SCORES, **others}))
    summary.main([])
    printed = capsys.readouterr().out
    assert "in noise  0.610   mean accuracy at 20, 10, 5, 0 dB" in printed
    assert "words     0.920   taken for a word: 3 unknown clips, 0 silences" in printed


def test_without_a_run_the_message_says_what_to_do(folder: Path) -> None:
    """If there are no scores, the command fails with one message."""
    del folder
    with pytest.raises(PipelineError, match=r"results/metrics\.json is missing: run dvc repro"):
        summary.main([])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", "", "metrics.json is empty"),
        ("metrics.json", "{}", "metrics.json: accuracy is missing"),
        ("metrics.json", json.dumps({**SCORES, "loss": None}), "metrics.json: loss: expected a valid number"),
        ("metrics.json", json.dumps({**SCORES, "loss": float("nan")}), "must have finite numbers, has NaN"),
        ("export.json", "[]", "export.json: expected a valid dictionary"),
        ("export.json", '{"onnx": "text"}', "export.json: expected .*only a reason, has onnx 'text'"),
    ],
)
def test_damaged_scores_are_one_message(folder: Path, name: str, content: str, message: str) -> None:
    """If somebody edited or cut a file, the command names it, and does not print half of the scores."""
    (folder / "results").mkdir()
    (folder / "results/metrics.json").write_text(json.dumps(SCORES))
    (folder / "results" / name).write_text(content)
    with pytest.raises(PipelineError, match=message) as error:
        summary.main([])
    assert "\n" not in str(error.value)


def test_only_files_that_exist_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a run that did not end, or a deletion, no report and no exported model is promised."""
    (folder / "results").mkdir()
    (folder / "results/metrics.json").write_text(json.dumps(SCORES))
    (folder / "results/export.json").write_text(json.dumps({"onnx": {"reason": "x"}}))
    (folder / "results/labels.csv").touch()
    summary.main([])
    lines = capsys.readouterr().out.splitlines()
    named = [line.split()[0] for line in lines if line.startswith(("results/", "models/"))]
    assert named == ["results/metrics.json", "results/labels.csv"]


@pytest.mark.tensorflow
def test_every_file_that_it_names_exists(finished: Path) -> None:
    """After a run, each path in the first column of the lower part is a file."""
    result = pipeline("summary", cwd=finished)
    paths = [
        line.split()[0] for line in result.stdout.splitlines() if line.startswith(("results/", "models/"))
    ]
    assert len(paths) == 5
    assert all((finished / path).is_file() for path in paths)


@pytest.mark.tensorflow
def test_a_test_clip_is_classified_at_the_end(finished: Path, tmp_path: Path) -> None:
    """If a model was exported, the last lines are a command that classifies a test clip, and its output."""
    project = Project(tmp_path / "project", copied=finished)
    assert "pipeline predict" not in project.run(sys.executable, "-m", "pipeline", "summary")
    project.export()
    *_, command, line = project.run(sys.executable, "-m", "pipeline", "summary").splitlines()
    assert command.startswith("$ python -m pipeline predict data/raw/")
    assert project.run("bash", "-c", command.removeprefix("$ ")).splitlines() == [line]
