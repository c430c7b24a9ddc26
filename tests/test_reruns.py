"""Which change reruns which stages, and that going back restores everything."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.store.layout import describe
from tests.project import RAN, RESTORED, Project

FEATURES = {"featurize@stft", "featurize@logmel", "featurize@mfcc", "featurize@speech"}
SHOW = {"examples", "report"}
LEARN = {"train", "evaluate", "export", "report"}
ALL = {"download", "extract", "decode", "split", *FEATURES, "examples", *LEARN}


@pytest.fixture(scope="module")
def project(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone whose pipeline has run once, with a committed dvc.lock."""
    return Project(tmp_path_factory.mktemp("home") / "project", copied=finished)


@pytest.fixture
def kept(project: Project) -> Iterator[Project]:
    """The clone. Afterwards everything is restored, and nothing has run for that."""
    yield project
    project.run("git", "checkout", "-q", ".")
    assert project.repro() == set()


def _edit(path: str) -> Callable[[Project], None]:
    def edit(project: Project) -> None:
        file = project.path / path
        file.write_text(file.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")

    return edit


def _rename_a_layer(project: Project) -> None:
    # With only another comment, the trained model would be the same bytes, and evaluate would not run.
    file = project.path / "pipeline/models/rnn.py"
    source = file.read_text(encoding="utf-8")
    assert 'name="lstm"' in source
    file.write_text(source.replace('name="lstm"', 'name="memory"'), encoding="utf-8")


def _set(**values: Any) -> Callable[[Project], None]:
    return lambda project: project.set_params(
        {key.replace("__", "."): value for key, value in values.items()}
    )


def _edit_nothing_that_counts(project: Project) -> None:
    """Change what no stage depends on: other models and data sets, messages, and progress lines."""
    project.set_params({"models.cnn.units": 5, "datasets.own.url": "elsewhere.zip"})
    for path in ("models/cnn.py", "errors.py", "progress.py", "__init__.py", "commands/check.py"):
        _edit(f"pipeline/{path}")(project)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(_set(), set(), id="nothing"),
        pytest.param(_edit_nothing_that_counts, set(), id="other models and datasets, messages"),
        pytest.param(_set(train__learning_rate=0.01), LEARN, id="train.*"),
        pytest.param(_rename_a_layer, LEARN, id="models/<chosen>.py"),
        pytest.param(_edit("pipeline/models/rnn.py"), {"train"}, id="models/<chosen>.py, same result"),
        pytest.param(_set(feature="mfcc"), LEARN, id="feature"),
        pytest.param(
            _set(features__stft__hop_length=256),
            {"featurize@stft", "examples", *LEARN},
            id="features.<chosen>.*",
        ),
        pytest.param(_set(features__mfcc__n_mfcc=13), {"featurize@mfcc", *SHOW}, id="features.<other>"),
        pytest.param(
            _edit("pipeline/features/mfcc.py"),
            {"featurize@mfcc", "examples", "export"},
            id="features/<other>.py",
        ),
        pytest.param(_set(split__seed=1), {"split", *LEARN}, id="split.*"),
        pytest.param(
            _set(audio__duration=0.7), {"decode", "split", *FEATURES, "examples", *LEARN}, id="audio.*"
        ),
        pytest.param(
            _set(task__words=["go", "stop"], task__unknown=0.1, task__silence=0.1),
            {"split", *LEARN},
            id="task.*",
        ),
        pytest.param(_set(train__augment__noise__probability=0.5), LEARN, id="train.augment.noise"),
        pytest.param(
            _set(clips__speaker="/([0-9a-f]+)_"), {"decode", "report"}, id="clips.speaker, same result"
        ),
        pytest.param(_set(clips__label="^([^/]+)"), {"decode", "report"}, id="clips.label, same result"),
        pytest.param(_set(audio__max_rejects=1), {"decode", "report"}, id="audio.max_rejects, same result"),
        pytest.param(_set(datasets__demo__seed=1), ALL, id="dataset"),
        pytest.param(_set(examples__seed=1), SHOW, id="examples.*"),
        pytest.param(_set(report__mistakes=1), {"report"}, id="report.*"),
        pytest.param(_set(export__calibration_clips=9), {"export"}, id="export.*, same result"),
        pytest.param(
            _edit("pipeline/report/templates/base.html"), {"report"}, id="report/templates/*, same result"
        ),
    ],
)
def test_a_change_reruns_only_the_stages_that_depend_on_it(
    kept: Project, change: Callable[[Project], None], expected: set[str]
) -> None:
    """Exactly the stages that a change affects run. Going back restores everything and runs nothing."""
    change(kept)
    assert kept.repro() == expected


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"train.epochs": 3}, {"train", "report"}),
        ({"train.augment.mixup": 0.5}, {"train", "report"}),
        ({"model": "cnn"}, {"train", "report"}),
        ({"models.rnn.units": 5}, {"train", "report"}),
        ({"models.cnn.units": 5}, set()),
        ({"feature": "mfcc"}, LEARN),
        ({"features.stft.window": "hamming"}, {"featurize@stft", "examples"}),
        ({"features.mfcc.n_mfcc": 13}, {"featurize@mfcc", "examples"}),
        ({"split.seed": 1}, {"split", "report"}),
        ({"task.words": ["go", "stop"]}, {"split", "report"}),
        ({"clips.recordings": []}, {"decode", "split", "report"}),
        ({"audio.padding": "constant"}, {"decode", "report"}),
        ({"extract.max_bytes": 1_000_000_000}, {"extract", "report"}),
        ({"datasets.demo.seed": 1}, {"download", "report"}),
        ({"datasets.own.url": "elsewhere.zip"}, set()),
    ],
    ids=lambda value: ", ".join(sorted(value)),
)
def test_a_parameter_concerns_only_the_stages_that_read_it(
    project: Project, change: dict[str, Any], expected: set[str]
) -> None:
    """`dvc status` says that exactly these stages are out of date."""
    project.set_params(change)
    stale = set(json.loads(project.run("dvc", "status", "--json")))
    project.run("git", "checkout", "-q", "params.yaml")
    assert stale == expected


@pytest.mark.tensorflow
def test_a_second_section_of_a_kind_is_one_more_feature(kept: Project) -> None:
    """`logmel64: {kind: logmel}` is one more feature: only it, the examples and the report run for it."""
    text = (kept.path / "params.yaml").read_text(encoding="utf-8")
    before = (kept.path / "data/features/logmel.h5").read_bytes()
    section = "  logmel64: {kind: logmel, n_mels: 64, fmin: 20.0, fmax: 8000.0, n_fft: 512, win_length: 512,"
    section += " hop_length: 128, window: hann, center: true, dtype: float32}\n"
    edited = text.replace("\nfeatures:\n", f"\nfeatures:\n{section}")
    (kept.path / "params.yaml").write_text(edited, encoding="utf-8")
    assert kept.repro() == {"featurize@logmel64", *SHOW}
    assert describe(kept.path / "data/features/logmel64.h5").shape[2] == 64
    assert (kept.path / "data/features/logmel.h5").read_bytes() == before
    (kept.path / "data/features/logmel64.h5").unlink()


@pytest.mark.tensorflow
def test_lost_outputs_are_restored(kept: Project) -> None:
    """After data, models and results are deleted, dvc repro restores everything and runs nothing."""
    for name in ("data/raw", "data/features", "models", "results"):
        shutil.rmtree(kept.path / name)
    output = kept.run("dvc", "repro")
    assert RAN.findall(output) == []
    assert (kept.path / "models" / "model.keras").exists()
    assert json.loads((kept.path / "results" / "metrics.json").read_text())["clips"] > 0


@pytest.mark.tensorflow
def test_every_stage_is_in_the_run_cache(kept: Project) -> None:
    """After dvc.lock is deleted, every stage is restored from the run-cache."""
    (kept.path / "dvc.lock").unlink()
    output = kept.run("dvc", "repro")
    assert RAN.findall(output) == []
    assert set(RESTORED.findall(output)) == ALL
