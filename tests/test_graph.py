"""What dvc.yaml and the code promise: dependencies, parameters, and which room may import which."""

import functools
import hashlib
import operator
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from ruamel.yaml import YAML

from pipeline.commands import COMMANDS
from tests import deps
from tests.deps import PIPELINE, ROOT

# The floors of the house, from the top. A room imports only from itself and from floors below.
FLOORS = (
    ("commands", "stages"),
    ("learning", "serving", "report"),
    ("corpus", "store", "features", "models"),
    (
        "params.py",
        "parallel.py",
        "files.py",
        "records.py",
        "kerasfile.py",
        "needs.py",
        "progress.py",
        "errors.py",
    ),
)


def _stages() -> dict[str, dict[str, Any]]:
    stages: dict[str, dict[str, Any]] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in stages.items()}


def _params() -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text("utf-8"))
    return content


# ------------------------------------------------------------------------------------ what a stage needs


def test_dvc_yaml_lists_the_code_of_each_stage() -> None:
    """`make deps` would change nothing: each stage lists exactly the code that it imports."""
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert deps.written(text) == text


def test_deps_finds_code_that_is_missing_or_superfluous() -> None:
    """`make deps` adds a module that a stage imports, removes one that it does not, and keeps the rest."""
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    line = "      - pipeline/corpus/splits.py\n"
    assert line in text
    assert deps.written(text.replace(line, "", 1)) == text
    assert deps.written(text.replace(line, line + "      - pipeline/corpus/demo.py\n", 1)) == text


@pytest.mark.parametrize("name", sorted(set(_stages()) - {"download"}))
def test_data_comes_before_code(name: str) -> None:
    """In each stage, deps are sorted data, the comment `# code`, and sorted code."""
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    stage = re.search(rf"^  {name}:\n(?:.*\n)*?(?=^  \w|^\w)", text, re.MULTILINE)
    assert stage
    block = re.search(r"deps:\n((?: +(?:- |#).*\n)+)", stage[0])
    assert block
    data, code = (part.split("- ")[1:] for part in block[1].split("# code\n"))
    assert data == sorted(data)
    assert code == sorted(code)
    assert not any(line.startswith("pipeline/") for line in data)
    assert all(line.startswith("pipeline/") for line in code)


@pytest.mark.parametrize("group", ["features", "models"])
def test_every_choice_has_the_same_code(group: str) -> None:
    """No feature or model imports what another does not, so one list of code is right for each of them."""
    shared = None
    for path in sorted((PIPELINE / group).glob("[a-z]*.py")):
        code = deps.closure([path]) - {path.relative_to(ROOT).as_posix()}
        assert code == (shared or code), path
        shared = code


def test_download_depends_only_on_parameters() -> None:
    """An edit of the code does not download anything again, and the run-cache stays on."""
    download = _stages()["download"]
    assert "deps" not in download
    assert download["params"] == ["dataset", "datasets.${dataset}"]


@pytest.mark.parametrize("name", list(_stages()))
def test_a_stage_lists_exactly_the_parameters_that_it_reads(name: str) -> None:
    """The keys under params are those that the stage passes to params.read and params.read_plugin."""
    source = (PIPELINE / "stages" / f"{name}.py").read_text(encoding="utf-8")
    keys = re.findall(r'params\.read(?:_plugin)?\(\s*f?"([^"]+)"', source)
    listed = {re.sub(r"\$\{\w+\}", "{}", key) for key in _stages()[name]["params"]}
    assert listed == {re.sub(r"\{\w+\}", "{}", key) for key in keys}


def test_the_committed_lock_is_true_to_code_and_parameters() -> None:
    """dvc.lock has the md5 of every code file and the value of every parameter as they are now.

    If this fails, run dvc repro and commit dvc.lock.
    """
    lock = YAML(typ="safe").load((ROOT / "dvc.lock").read_text())["stages"]
    params = _params()
    features = {f"featurize@{name}" for name in params["features"]}
    assert lock.keys() == {*_stages()} - {"featurize"} | features
    for stage in lock.values():
        for dep in stage.get("deps", []):
            if dep["path"].endswith((".py", ".html")):
                content = (ROOT / dep["path"]).read_bytes()
                assert dep["md5"] == hashlib.md5(content).hexdigest(), dep["path"]
            elif dep["path"].startswith("pipeline/"):
                assert dep["md5"] == _md5_of_folder(dep["path"]), dep["path"]
        for key, value in stage["params"]["params.yaml"].items():
            assert value == functools.reduce(operator.getitem, key.split("."), params), key


def _md5_of_folder(path: str) -> str:
    """Return the md5 that DVC gives a folder with the files that git tracks in it."""
    files = subprocess.run(["git", "ls-files", path], cwd=ROOT, capture_output=True, text=True, check=True)
    tree = Tree()
    for name in files.stdout.split():
        digest = hashlib.md5((ROOT / name).read_bytes()).hexdigest()
        tree.add(Path(name).relative_to(path).parts, None, HashInfo("md5", digest))
    tree.digest()
    return str(tree.hash_info.value)


def test_compiled_code_is_no_dependency() -> None:
    """DVC ignores __pycache__, so an import does not make a stage stale that has a folder of code."""
    command = [sys.executable, "-m", "dvc", "check-ignore", "-q", "pipeline/features/__pycache__/stft.pyc"]
    subprocess.run(command, cwd=ROOT, check=True)


def test_stages_name_only_files_of_the_project() -> None:
    """No dep or out is a URL, absolute, or outside: each would silently disable the run-cache."""
    for stage in _stages().values():
        for path in [*stage.get("deps", []), *stage.get("outs", [])]:
            assert isinstance(path, str)
            assert not re.match(r"^/|\.\.|\w+://", path)


def test_registered_artifacts_are_outputs() -> None:
    """What dvc.yaml registers as a model is the output of a stage, with a description and labels."""
    artifacts = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["artifacts"]
    outs = {out for stage in _stages().values() for out in stage["outs"]}
    assert artifacts
    for artifact in artifacts.values():
        assert artifact["path"] in outs
        assert artifact["type"] == "model"
        assert artifact["desc"]
        assert artifact["labels"]


def test_nothing_of_the_machine_is_in_the_graph() -> None:
    """dvc.yaml and params.yaml have no jobs, cores, backends or environment variables."""
    for name in ("dvc.yaml", "params.yaml"):
        text = re.sub(r"#.*", "", (ROOT / name).read_text(encoding="utf-8"))
        assert not re.search(r"jobs|n_jobs|backend|PIPELINE_|loky|/home|/root|/tmp", text)


def test_every_feature_and_model_has_its_section() -> None:
    """Each file of models/ has the section of its name, each file of features/ a section of its kind."""
    params = _params()
    files = {
        group: {path.stem for path in (PIPELINE / group).glob("[a-z]*.py")}
        for group in ("features", "models")
    }
    assert files["models"] == set(params["models"])
    assert files["features"] == {section["kind"] for section in params["features"].values()}


# --------------------------------------------------------------------------------------- how it is laid out


def _room(path: Path) -> str:
    return path.relative_to(PIPELINE).parts[0]


def _floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def _imports() -> Iterator[tuple[Path, Path]]:
    """Yield each file in a room, and each file in a room that it imports."""
    outside = ("__init__.py", "__main__.py")
    for path in PIPELINE.rglob("*.py"):
        for module in deps.imports(path):
            if module.is_relative_to(PIPELINE) and not {_room(path), _room(module)} & set(outside):
                yield path, module


def test_imports_run_down_only() -> None:
    """A room imports only from itself and from floors below."""
    pairs = list(_imports())
    assert len(pairs) > 200
    for path, module in pairs:
        upper, lower = _floor(_room(path)), _floor(_room(module))
        ground = upper == lower == len(FLOORS) - 1  # its files may use each other
        assert upper < lower or ground or _room(path) == _room(module), f"{path} imports {module}"
        assert _room(module) != "stages", f"{path} imports {module}"


def test_no_import_runs_in_a_circle() -> None:
    """No file imports itself through others."""
    graph: dict[Path, set[Path]] = {}
    for path, module in _imports():
        if path != module and module.name != "__init__.py":
            graph.setdefault(path, set()).add(module)
    while graph:
        leaves = {path for path, modules in graph.items() if not modules & graph.keys()}
        assert leaves, f"these import each other: {sorted(map(str, graph))}"
        graph = {path: modules for path, modules in graph.items() if path not in leaves}


def test_rooms_keep_to_themselves() -> None:
    """Features import no file access, models and features no store, the store no audio and no params.yaml."""
    forbidden = {
        "features": ("files.py", "records.py", "kerasfile.py", "store", "corpus"),
        "models": ("files.py", "records.py", "kerasfile.py", "store", "corpus"),
        "store": ("corpus", "params.py"),
        "corpus": ("features", "store"),
    }
    for path, module in _imports():
        if path != PIPELINE / "store/current.py":
            assert _room(module) not in forbidden.get(_room(path), ()), f"{path} imports {module}"


def test_the_map_of_the_code_is_complete() -> None:
    """pipeline/__init__.py and the README name every room and every file of the ground."""
    rooms = {path.parent.name for path in PIPELINE.glob("*/*.py")}
    ground = {path.name for path in PIPELINE.glob("[a-z]*.py")}
    assert ground == set(FLOORS[-1])
    assert rooms <= {room for floor in FLOORS for room in floor}
    for document in (PIPELINE / "__init__.py", ROOT / "README.md"):
        text = document.read_text(encoding="utf-8")
        missing = [name for name in sorted(rooms) if f"{name}/" not in text]
        missing += [name for name in sorted(ground) if name not in text]
        assert not missing, f"{document} does not name {missing}"


def test_tensorflow_is_imported_only_where_it_is_used() -> None:
    """Every stage and every command can be imported without TensorFlow, Keras and librosa."""
    names = [path.stem for path in (PIPELINE / "stages").glob("[a-z]*.py")]
    assert len(names) == 10
    modules = [f"pipeline.stages.{name}" for name in names] + [
        f"pipeline.commands.{name}" for name in COMMANDS
    ]
    code = f"import sys, {', '.join(modules)}"
    code += "\nassert not {'tensorflow', 'keras', 'librosa'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
