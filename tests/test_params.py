import copy
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from pipeline import params
from pipeline.errors import PipelineError
from pipeline.features import Feature
from pipeline.features.logmel import LogMel
from pipeline.features.mfcc import MFCC
from pipeline.models import Model
from pipeline.models.tcresnet import TCResNet
from tests.project import ROOT


class Audio(params.Section):
    sample_rate: int = Field(gt=0)
    duration: float = Field(gt=0)
    padding: Literal["edge", "constant"]


GOOD = {"sample_rate": 22050, "duration": 0.8, "padding": "edge"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _write(text: str) -> None:
    Path("params.yaml").write_text(text, encoding="utf-8")


def test_a_section_is_read_into_its_type() -> None:
    """A section is returned as the given type; whole numbers are numbers."""
    _write("audio: {sample_rate: 8000, duration: 1, padding: constant}")
    assert params.read("audio", Audio) == Audio(sample_rate=8000, duration=1.0, padding="constant")


def test_a_nested_section_is_found_by_its_path() -> None:
    """Dots in a key lead into nested sections."""
    _write("features: {stft: {n_fft: 512}}")
    assert params.read("features.stft.n_fft", int) == 512


def test_the_file_is_read_as_yaml_1_2() -> None:
    """`1e-5`, as dvc exp run -S writes it, is a number, and `no` is a word."""
    _write("rate: 1e-5\nword: no")
    assert params.read("rate", float) == 1e-5
    assert params.read("word", str) == "no"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample_rate": -1}, "params.yaml: audio.sample_rate must be above 0, is -1"),
        ({"sample_rate": 0.5}, "params.yaml: audio.sample_rate must be a whole number, is 0.5"),
        ({"sample_rate": "8000"}, "params.yaml: audio.sample_rate must be a whole number, is '8000'"),
        ({"duration": True}, "params.yaml: audio.duration must be a number, is True"),
        ({"duration": None}, "params.yaml: audio.duration must be a number, is null"),
        ({"duration": float("inf")}, "params.yaml: audio.duration must be a finite number, is inf"),
        ({"padding": "wrap"}, "params.yaml: audio.padding must be 'edge' or 'constant', is 'wrap'"),
        ({"paddin": "edge"}, "params.yaml: audio.paddin is not a parameter; did you mean padding?"),
        (
            {"x": 1},
            "params.yaml: audio.x is not a parameter; expected one of sample_rate, duration, padding",
        ),
    ],
)
def test_a_problem_is_named_with_what_was_expected_and_found(change: dict[str, Any], message: str) -> None:
    """The message names the parameter, what it must be, and what it is."""
    assert params.check({"audio": {**GOOD, **change}}, "audio", Audio) == (None, [message])


def test_every_problem_of_a_section_is_reported() -> None:
    """All problems of a section are in one message, one line each."""
    _write("audio: {sample_rate: 0, duration: -1, padding: edge}")
    with pytest.raises(PipelineError) as caught:
        params.read("audio", Audio)
    assert str(caught.value).splitlines() == [
        "params.yaml: audio.sample_rate must be above 0, is 0",
        "params.yaml: audio.duration must be above 0, is -1",
    ]


def test_a_missing_section_is_named_with_its_neighbours() -> None:
    """A missing section is an error that lists its neighbours."""
    _write("features: {stft: {}, mfcc: {}}")
    with pytest.raises(PipelineError, match=r"features\.cqt is missing; expected one of stft, mfcc"):
        params.read("features.cqt", Audio)


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [", "is not YAML"), ("a: 1\na: 2", "is not YAML"), ("- a", "must contain sections")],
)
def test_a_file_that_is_not_a_mapping_is_refused(content: str, message: str) -> None:
    """Broken YAML, a key given twice and a bare list are errors that say so."""
    _write(content)
    with pytest.raises(PipelineError, match=message):
        params.load()


def test_a_missing_file_is_an_error_that_says_where_to_run() -> None:
    """Outside the project's folder the message says to go there."""
    with pytest.raises(PipelineError, match="root folder"):
        params.load()


class Inner(params.Section):
    b: int = Field(gt=0)
    c: int


class Outer(params.Section):
    a: int
    inner: Inner


def test_overrides_replace_values() -> None:
    """A value of the other section replaces the one of the same name, at any depth; the rest stays."""
    content = {"x": {"a": 1, "inner": {"b": 2, "c": 3}}, "y": {"z": {"inner": {"b": 5}}}}
    value, problems = params.check(content, "x", Outer, overrides="y.z")
    assert value == Outer(a=1, inner=Inner(b=5, c=3))
    assert problems == []
    assert params.check(content, "x", Outer, overrides="y.none")[0] == Outer(a=1, inner=Inner(b=2, c=3))


def test_a_problem_is_named_with_its_own_path() -> None:
    """A problem in the section has the section's path, one in the overrides has theirs."""
    content = {"x": {"a": 1, "inner": {"b": 0, "c": 3}}, "y": {"inner": {"b": -1}, "d": 1}}
    assert params.check(content, "x", Outer, overrides="y")[1] == [
        "params.yaml: x.inner.b must be above 0, is 0"
    ]
    content["x"]["inner"]["b"] = 1  # type: ignore[index]
    assert params.check(content, "x", Outer, overrides="y")[1] == [
        "params.yaml: y.inner.b must be above 0, is -1",
        "params.yaml: y.d is not a parameter; expected one of a, inner",
    ]
    assert params.check({**content, "y": 3}, "x", Outer, overrides="y")[1] == [
        "params.yaml: y must be a section of parameters, is 3"
    ]


def test_a_plugin_is_found_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """`kind` names the code of a section; without one, the section's name does. Case does not matter."""
    monkeypatch.chdir(ROOT)
    content = copy.deepcopy(params.load())  # `load` returns the same dicts each time
    content["features"]["wide"] = {**content["features"]["logmel"], "n_mels": 64}
    feature, problems = params.check_plugin(content, "features.wide", Feature)
    assert (type(feature), problems) == (LogMel, [])
    model, problems = params.check_plugin(content, "models.tcresnet", Model)
    assert (type(model), problems) == (TCResNet, [])
    assert isinstance(params.read_plugin("features.mfcc", Feature), MFCC)
    content["models"]["tcresnet"]["kind"] = "tcresnet"
    _, problems = params.check_plugin(content, "models.tcresnet", Model)
    assert problems[0].startswith("params.yaml: models.tcresnet.kind is not a parameter")
