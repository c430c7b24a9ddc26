"""DVC's own commands on a run: metrics, plots, parameters, and experiments."""

import io
import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.project import RAN, Project, read_csv


@pytest.fixture(scope="module")
def project(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone whose pipeline has run once. Its lock file is committed."""
    return Project(tmp_path_factory.mktemp("home") / "project", copied=finished)


@pytest.mark.tensorflow
def test_metrics_fit_a_terminal(project: Project) -> None:
    """`dvc metrics show results/metrics.json` prints only the headline, in at most 100 columns."""
    metrics = json.loads(project.run("dvc", "metrics", "show", "--json"))[""]["data"]
    scores = metrics["results/metrics.json"]["data"]
    assert metrics.keys() == {"results/metrics.json", "results/export.json"}
    expected = {"accuracy", "low_95", "high_95", "macro_f1", "loss", "clips", "epoch", "noisy"}
    assert scores.keys() == expected
    assert scores["epoch"] == 1
    lines = project.run("dvc", "metrics", "show", "results/metrics.json").splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 100
    assert {row["label"] for row in read_csv(project.path / "results/labels.csv")} == {"go", "stop", "yes"}


@pytest.mark.tensorflow
def test_plots_and_params_are_known_to_dvc(project: Project) -> None:
    """`dvc plots show` has curves, confusion, scores by label and examples; params diff has a change."""
    project.run("dvc", "plots", "show", "--out", "plots")
    page = (project.path / "plots" / "index.html").read_text(encoding="utf-8")
    images = {re.sub(r"^.*_(?=\d-)", "", path.name) for path in (project.path / "plots").rglob("*.png")}
    shutil.rmtree(project.path / "plots")
    for title in (
        "Loss by epoch",
        "Accuracy by epoch",
        "Confusion matrix",
        "as shares",
        "Precision of each label",
        "Recall of each label",
        "Precision over recall",
        "Accuracy of the test clips in noise",
    ):
        assert title in page
    assert images == {"0-_background_noise_.png", "1-go.png", "2-stop.png", "3-yes.png"}
    project.set_params({"train.epochs": 2})
    assert "train.epochs" in project.run("dvc", "params", "diff")


def _own_archive(path: Path) -> None:
    """Write 24 recordings of two labels and four speakers: four formats, three rates, stereo, odd names."""
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(24):
            label, tone = (("nö, 1", 300), ("#yes", 1200))[number % 2]
            suffix, rate = ("wav", "flac", "ogg", "mp3")[number % 4], (8000, 16000, 44100)[number % 3]
            time = np.arange(int(rate * generator.uniform(0.5, 1.2)))[:, None] / rate
            waveform = 0.3 * np.sin(2 * np.pi * tone * time) + generator.normal(0, 0.02, (len(time), 2))
            file = io.BytesIO()
            soundfile.write(file, waveform, rate, format=suffix)
            archive.writestr(f"{label}/it's {number % 8 // 2}_nohash_{number}.{suffix}", file.getvalue())


@pytest.mark.tensorflow
def test_experiments_run_from_the_workspace_and_from_the_queue(project: Project) -> None:
    """`dvc exp run -S` takes your own data by a relative path, in the workspace and in the queue.

    `python -m pipeline experiments` then shows the scores and only the parameters that differ.
    """
    project.run("git", "checkout", "-q", ".")
    _own_archive(project.path.parent / "my clips.zip")
    own = ("-S", "dataset=own", "-S", "datasets.own.url='../my clips.zip'")
    output = project.run("dvc", "exp", "run", *own, "-n", "workspace", "split", "featurize@stft")
    assert set(RAN.findall(output)) == {"download", "extract", "decode", "split", "featurize@stft"}
    assert re.search(r"sha256 [0-9a-f]{64}.*params\.yaml: datasets\.own\.sha256", output)
    project.run("git", "checkout", "-q", ".")
    both = ("-S", "model=rnn,cnn", "-S", "train.learning_rate=1e-2")
    project.run("dvc", "exp", "run", "--queue", *own, *both, "evaluate")
    project.run("dvc", "exp", "run", "--run-all")
    shown = json.loads(project.run("dvc", "exp", "show", "--json"))
    rows = [row["revs"][0]["data"] for base in shown for row in base["experiments"] or []]
    assert len(rows) == 3
    used = [data["params"]["params.yaml"]["data"] for data in rows]
    assert {params["dataset"] for params in used} == {"own"}
    queued = [
        data for data, params in zip(rows, used, strict=True) if params["train"]["learning_rate"] == 0.01
    ]
    assert {data["params"]["params.yaml"]["data"]["model"] for data in queued} == {"rnn", "cnn"}
    assert all(data["metrics"]["results/metrics.json"]["data"]["clips"] > 0 for data in queued)

    table = project.run("python", "-m", "pipeline", "experiments", "--csv").splitlines()
    columns = table[0].split(",")
    assert {"Experiment", "accuracy", "macro_f1", "loss", "model", "train.learning_rate"} <= set(columns)
    assert "train.epochs" not in columns
    assert not [name for name in columns if "/" in name]


@pytest.mark.tensorflow
def test_a_model_learns_from_a_teacher(finished: Path, tmp_path: Path) -> None:
    """The README's commands train a model by another one, which takes another feature; the report says so.

    Without its md5, the message has the option that sets it. Another weight of the teacher
    gives another model.
    """
    project = Project(tmp_path / "project", copied=finished)
    shutil.copy(project.path / "models/model.keras", project.path / "teacher.keras")
    options = ["-S", "model=cnn", "-S", "feature=mfcc", "-S", "train.teacher=teacher.keras"]
    options += ["-S", "train.teacher_feature=stft"]
    output = project.fails("dvc", "exp", "run", *options)
    assert "Traceback" not in output
    found = re.search(r"add -S (train\.teacher_md5=[0-9a-f]{32}) to train with this file", output)
    assert found
    output = project.run("dvc", "exp", "run", *options, "-S", found[1])
    assert set(RAN.findall(output)) == {"train", "evaluate", "export", "report"}
    page = (project.path / "results/report.html").read_text(encoding="utf-8")
    assert "A share of 0.9 of its training targets came from a teacher, <code>teacher.keras</code>." in page
    taught = (project.path / "models/model.keras").read_bytes()
    project.set_params({"train.teacher_weight": 1.0})
    assert project.repro("train") == {"train"}
    assert (project.path / "models/model.keras").read_bytes() != taught


def test_a_wrong_parameter_ends_the_run_with_one_message(tmp_path: Path) -> None:
    """A wrong parameter is named without a traceback, before any stage has written anything."""
    project = Project(tmp_path / "project")
    project.set_params({"dataset": "own"})
    output = project.fails("dvc", "repro")
    assert "params.yaml: datasets.own.url must be a URL or a path" in output
    assert "Traceback" not in output
    assert not (project.path / "data" / "archive").exists() or not list(
        (project.path / "data/archive").iterdir()
    )
