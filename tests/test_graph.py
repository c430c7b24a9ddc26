"""What dvc.yaml promises: which change reruns what, and that no dependency is missing or too many."""

import ast
import functools
import hashlib
import io
import json
import operator
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from ruamel.yaml import YAML

from tests.project import RAN, RESTORED, ROOT, Project

PIPELINE = ROOT / "pipeline"
FEATURES = {f"featurize@{path.stem}" for path in (PIPELINE / "features").glob("[a-z]*.py")}
SHOW = {"examples", "report"}
LEARN = {"train", "evaluate", "report"}
ALL = {"download", "extract", "decode", "split", *FEATURES, "examples", *LEARN}


# ------------------------------------------------------------------------------- which change reruns what


@pytest.fixture(scope="module")
def project(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone whose pipeline has run once, its lock file committed."""
    return Project(tmp_path_factory.mktemp("home") / "project", copied=finished)


@pytest.fixture
def kept(project: Project) -> Iterator[Project]:
    """The clone; afterwards it is as it was, and going back has run nothing."""
    yield project
    project.run("git", "checkout", "-q", ".")
    assert project.repro() == set()


def _edit(path: str) -> Callable[[Project], None]:
    def edit(project: Project) -> None:
        file = project.path / path
        file.write_text(file.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")

    return edit


def _rename_a_layer(project: Project) -> None:
    # A comment would leave the trained model the same bytes, and nothing to evaluate.
    file = project.path / "pipeline/models/rnn.py"
    source = file.read_text(encoding="utf-8")
    assert 'name="lstm"' in source
    file.write_text(source.replace('name="lstm"', 'name="memory"'), encoding="utf-8")


def _set(**values: Any) -> Callable[[Project], None]:
    return lambda project: project.set_params(
        {key.replace("__", "."): value for key, value in values.items()}
    )


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(_set(), set(), id="nothing"),
        pytest.param(_set(train__learning_rate=0.01), LEARN, id="train.*"),
        pytest.param(_set(models__rnn__units=5), LEARN, id="models.<chosen>.*"),
        pytest.param(_rename_a_layer, LEARN, id="models/<chosen>.py"),
        pytest.param(_edit("pipeline/models/rnn.py"), {"train"}, id="models/<chosen>.py, to the same end"),
        pytest.param(_set(model="cnn"), LEARN, id="model"),
        pytest.param(_set(models__cnn__units=5), set(), id="models.<other>.*"),
        pytest.param(_edit("pipeline/models/cnn.py"), set(), id="models/<other>.py"),
        pytest.param(_set(feature="mfcc"), LEARN, id="feature"),
        pytest.param(
            _set(features__stft__hop_length=256),
            {"featurize@stft", "examples", *LEARN},
            id="features.<chosen>.*",
        ),
        pytest.param(_set(features__mfcc__n_mfcc=13), {"featurize@mfcc", *SHOW}, id="features.<other>"),
        pytest.param(_edit("pipeline/features/mfcc.py"), {"featurize@mfcc"}, id="features/<other>.py"),
        pytest.param(_set(split__seed=1), {"split", *LEARN}, id="split.*"),
        pytest.param(_set(audio__duration=0.7), {"decode", *FEATURES, "examples", *LEARN}, id="audio.*"),
        pytest.param(
            _set(clips__speaker="^([0-9a-f]+)_"), {"decode", "report"}, id="clips.speaker, to the same end"
        ),
        pytest.param(
            _set(audio__max_rejects=1), {"decode", "report"}, id="audio.max_rejects, to the same end"
        ),
        pytest.param(_set(datasets__demo__seed=1), ALL, id="dataset"),
        pytest.param(_set(examples__seed=1), SHOW, id="examples.*"),
        pytest.param(_set(report__mistakes=1), {"report"}, id="report.*"),
        pytest.param(_edit("pipeline/report/templates/base.html"), {"report"}, id="report/templates/*"),
        pytest.param(_set(datasets__own__url="elsewhere.zip"), set(), id="datasets.<other>"),
    ],
)
def test_a_change_reruns_what_depends_on_it(
    kept: Project, change: Callable[[Project], None], expected: set[str]
) -> None:
    """Exactly the stages that a change affects run; going back restores all and runs none."""
    change(kept)
    assert kept.repro() == expected


@pytest.mark.tensorflow
def test_what_was_computed_is_restored_after_all_outputs_are_lost(kept: Project) -> None:
    """With data, models and results deleted, dvc repro restores everything and runs nothing."""
    for name in ("data/raw", "data/features", "models", "results"):
        shutil.rmtree(kept.path / name)
    output = kept.run("dvc", "repro")
    assert RAN.findall(output) == []
    assert (kept.path / "models" / "model.keras").exists()
    assert json.loads((kept.path / "results" / "metrics.json").read_text())["clips"] > 0


@pytest.mark.tensorflow
def test_every_stage_is_in_the_run_cache(kept: Project) -> None:
    """With the lock file deleted, each stage is restored from the run-cache: none is without it."""
    (kept.path / "dvc.lock").unlink()
    output = kept.run("dvc", "repro")
    assert RAN.findall(output) == []
    assert set(RESTORED.findall(output)) == ALL


@pytest.mark.tensorflow
def test_metrics_and_plots_are_known_to_dvc(kept: Project) -> None:
    """dvc metrics, plots and params diff show accuracy, curves, confusion matrix and what changed."""
    metrics = json.loads(kept.run("dvc", "metrics", "show", "--json"))[""]["data"]
    scores = metrics["results/metrics.json"]["data"]
    assert {"accuracy", "macro_f1", "loss", "labels"} <= scores.keys()
    assert scores["labels"].keys() == {"go", "stop", "yes"}
    assert metrics["results/train/metrics.json"]["data"]["best"]["epoch"] == 1
    kept.run("dvc", "plots", "show", "--out", "plots")
    page = (kept.path / "plots" / "index.html").read_text(encoding="utf-8")
    images = {path.name.rpartition("_")[2] for path in (kept.path / "plots").rglob("*.png")}
    shutil.rmtree(kept.path / "plots")
    for title in (
        "Loss by epoch",
        "Accuracy by epoch",
        "Confusion matrix",
        "as shares",
        "Precision over recall",
    ):
        assert title in page
    assert images == {"0-go.png", "1-stop.png", "2-yes.png"}
    kept.set_params({"train.epochs": 2})
    assert "train.epochs" in kept.run("dvc", "params", "diff")


def _own_archive(path: Path) -> None:
    """24 recordings of two labels and four speakers: four formats, three rates, stereo, any names."""
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
def test_experiments_run_from_the_workspace_and_from_the_queue(kept: Project) -> None:
    """`dvc exp run -S` takes own data of any form by a relative path, in the workspace and queued."""
    _own_archive(kept.path.parent / "my clips.zip")
    own = ("-S", "dataset=own", "-S", "datasets.own.url='../my clips.zip'")
    output = kept.run("dvc", "exp", "run", *own, "-S", "feature=mfcc", "-n", "workspace")
    assert set(RAN.findall(output)) == ALL
    assert re.search(r"sha256 [0-9a-f]{64}: set params\.yaml: datasets\.own\.sha256", output)
    kept.run("git", "checkout", "-q", ".")
    both = ("-S", "model=rnn,cnn", "-S", "train.learning_rate=1e-2")
    kept.run("dvc", "exp", "run", "--queue", *own, *both, "evaluate")
    kept.run("dvc", "exp", "run", "--run-all")
    shown = json.loads(kept.run("dvc", "exp", "show", "--json"))
    rows = [row for base in shown for row in base["experiments"] or []]
    assert len(rows) == 3
    found = [row["revs"][0]["data"] for row in rows]
    params = [data["params"]["params.yaml"]["data"] for data in found]
    assert {each["dataset"] for each in params} == {"own"}
    assert {each["model"] for each in params} == {"rnn", "cnn"}
    for data in found:
        scores = data["metrics"]["results/metrics.json"]["data"]
        assert scores["labels"].keys() == {"nö, 1", "#yes"}


def test_a_mistake_ends_a_stage_with_one_message(tmp_path: Path) -> None:
    """A wrong parameter stops the run before anything is made, named, without a traceback."""
    project = Project(tmp_path / "project")
    project.set_params({"dataset": "own"})
    output = project.fails("dvc", "repro")
    assert "params.yaml: datasets.own.url must be a URL or a path" in output
    assert "Traceback" not in output
    assert not (project.path / "data" / "archive").exists() or not list(
        (project.path / "data/archive").iterdir()
    )


# ------------------------------------------------------------------------------------ what a stage needs


def _modules(path: Path) -> Iterator[Path]:
    """The project's files that the one at `path` imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [str(node.module)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                base = ROOT.joinpath(*parts[:length])
                yield from (file for file in (base.with_suffix(".py"), base / "__init__.py") if file.exists())


def _templates(path: Path) -> Iterator[Path]:
    """The pages' templates that the file at `path`, code or one of them, names."""
    for name in re.findall(r'"(\w+\.html)"', path.read_text(encoding="utf-8")):
        template = PIPELINE / "report/templates" / name
        yield from [template] if template.exists() else []


def _closure(*paths: Path) -> set[str]:
    """The files with code in them that `paths` import or fill in, directly or not, and themselves."""
    found: set[Path] = set()
    new = {path for start in paths for path in (start, start.parent / "__init__.py")}
    while new:
        found |= new
        needed = {file for path in new for file in _templates(path)}
        needed |= {module for path in new if path.suffix == ".py" for module in _modules(path)}
        new = needed - found
    return {path.relative_to(ROOT).as_posix() for path in found if path.stat().st_size}


def _stages() -> dict[str, dict[str, Any]]:
    stages: dict[str, dict[str, Any]] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in stages.items()}


def _variants() -> Iterator[Any]:
    """Each stage with each file that its template can choose."""
    for name, stage in _stages().items():
        templates = [dep for dep in stage.get("deps", []) if dep.startswith("pipeline/") and "$" in dep]
        folders = {Path(template).parent for template in templates}
        chosen = [file for folder in folders for file in sorted((ROOT / folder).glob("[a-z]*.py"))]
        if not chosen:
            yield pytest.param(name, None, id=name)
        for file in chosen:
            yield pytest.param(name, file, id=f"{name}@{file.stem}")


@pytest.mark.parametrize(("name", "chosen"), [each for each in _variants() if each.values[0] != "download"])
def test_a_stage_depends_on_exactly_the_code_that_it_imports(name: str, chosen: Path | None) -> None:
    """A stage's code deps are the closure of its imports, with the chosen feature's or model's file."""
    deps = [dep for dep in _stages()[name]["deps"] if dep.startswith("pipeline/")]
    if chosen:
        deps = [re.sub(r"\$\{\w+\}", chosen.stem, dep) for dep in deps]
    starts = [PIPELINE / "stages" / f"{name}.py", *([chosen] if chosen else [])]
    assert set(deps) == _closure(*starts)
    assert len(deps) == len(set(deps))


def test_download_depends_on_parameters_alone() -> None:
    """No deps and some params: an edit of the code fetches nothing anew, and the run-cache stays on."""
    download = _stages()["download"]
    assert "deps" not in download
    assert download["params"] == ["dataset", "datasets.${dataset}"]


@pytest.mark.parametrize("name", list(_stages()))
def test_a_stage_lists_exactly_the_parameters_that_it_reads(name: str) -> None:
    """The keys under params are those of the stage's calls of params.read, no more and no fewer."""
    source = (PIPELINE / "stages" / f"{name}.py").read_text(encoding="utf-8")
    read = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "params.read":
            read.add(re.sub(r"\{\w+\}", "{}", ast.unparse(node.args[0]).lstrip("f").strip("'")))
    listed = {re.sub(r"\$\{\w+\}", "{}", key) for key in _stages()[name]["params"]}
    assert listed == read


def test_the_committed_lock_is_true_to_code_and_parameters() -> None:
    """dvc.lock holds the md5 of every code file and the value of every parameter as they are now.

    Where this fails, run dvc repro and commit dvc.lock.
    """
    lock = YAML(typ="safe").load((ROOT / "dvc.lock").read_text())["stages"]
    params = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert lock.keys() == ALL
    for stage in lock.values():
        for dep in stage.get("deps", []):
            if dep["path"].startswith("pipeline/"):
                content = (ROOT / dep["path"]).read_bytes()
                assert dep["md5"] == hashlib.md5(content).hexdigest(), dep["path"]
        for key, value in stage["params"]["params.yaml"].items():
            assert value == functools.reduce(operator.getitem, key.split("."), params), key


def test_stages_name_only_files_of_the_project() -> None:
    """No dep or out is a URL, absolute, or outside: each would disable the run-cache without a word."""
    for stage in _stages().values():
        for path in [*stage.get("deps", []), *stage.get("outs", [])]:
            assert isinstance(path, str)
            assert not re.match(r"^/|\.\.|\w+://", path)


def test_nothing_of_the_machine_is_in_the_graph() -> None:
    """Neither dvc.yaml nor params.yaml speaks of jobs, cores, backends or environment variables."""
    for name in ("dvc.yaml", "params.yaml"):
        text = re.sub(r"#.*", "", (ROOT / name).read_text(encoding="utf-8"))
        assert not re.search(r"jobs|n_jobs|backend|PIPELINE_|loky|/home|/root|/tmp", text)


def test_every_feature_and_model_has_its_section() -> None:
    """Each file of features/ and models/ has the section of its name, and each section its file."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    for group in ("features", "models"):
        assert {path.stem for path in (PIPELINE / group).glob("[a-z]*.py")} == set(params[group])


def test_tensorflow_is_imported_only_where_models_are() -> None:
    """Checking parameters and every stage up to the features, imported, leave TensorFlow unloaded."""
    stages = [path.stem for path in (PIPELINE / "stages").glob("[a-z]*.py")]
    assert len(stages) == 9
    code = "import sys, " + ", ".join(f"pipeline.stages.{name}" for name in stages)
    code += ", pipeline.commands.check\nassert not {'tensorflow', 'keras', 'librosa'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_nouns_never_import_stages() -> None:
    """No file outside stages/ imports from it."""
    for path in PIPELINE.rglob("*.py"):
        if path.parent.name != "stages":
            assert not any(module.parent.name == "stages" for module in _modules(path)), path
