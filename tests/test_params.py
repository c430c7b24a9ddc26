import copy
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

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


ADVICE = "Correct the name there, or delete its line"
KEYS = "sample_rate, duration, padding"
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
        ({"paddin": "edge"}, f"params.yaml: audio.paddin is not a parameter; did you mean padding? {ADVICE}"),
        (
            {"x": 1},
            f"params.yaml: audio.x is not a parameter; expected one of {KEYS}. {ADVICE}",
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


DEEP = "params.yaml has values nested deeper than 20 levels: correct it"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "params.yaml must contain sections such as `audio:`, is null: run git restore params.yaml"),
        ("a: " + "[" * 1000, DEEP),
        ("a: " + "[" * 30 + "]" * 30, DEEP),
        ("a: &a [*a]", DEEP),
        (
            "a0: &a0 [1, 1]\n" + "\n".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}]" for n in range(1, 12)),
            "params.yaml has more than 100,000 values: shorten it",
        ),
        ("a: b\na: c", 'params.yaml is not YAML: line 2: found duplicate key "a" with value "c"'),
        ("a: 2020-13-45", "params.yaml is not YAML: month must be in 1..12: correct it there"),
        ("a: " + "9" * 5000, "params.yaml is not YAML: Exceeds the limit (4300 digits)"),
        ("a: !!python/object/apply:os.system [ls]", "is not YAML: line 1: could not determine a constructor"),
        ("? {a: b}\n: 1", "params.yaml is not YAML: line 1: found unhashable key: correct it there"),
        ('a: "\\U00110000"', "params.yaml is not YAML: chr() arg not in range(0x110000): correct it there"),
        ("a: !!bool x", "params.yaml is not YAML: 'x': correct it there"),
        ("\0", "params.yaml is not YAML: unacceptable character #x0000"),
        ("a: " + "x" * 200_000, "params.yaml has more than 200,000 bytes: shorten it"),
    ],
)
def test_content_that_yaml_cannot_hold_is_a_message(content: str, message: str) -> None:
    """Whatever ruamel.yaml raises, and values without an end, become one line that says what is wrong."""
    _write(content)
    with pytest.raises(PipelineError) as caught:
        params.load()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_text_are_a_message() -> None:
    """A binary file is an error that names the file."""
    Path("params.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(PipelineError, match=r"^params\.yaml is not YAML: 'utf-8' codec can't decode"):
        params.load()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_not_a_file_is_not_read(make: Callable[[Path], None]) -> None:
    """A folder, a pipe that nobody writes to, and a device without an end are named."""
    make(Path("params.yaml"))
    with pytest.raises(PipelineError, match=r"^params\.yaml is not a file: move away"):
        params.load()


@pytest.mark.parametrize(
    "key", [1, None, True, 1.5, (1, 2), "", "a b", "a\nb", "\ud800", "x" * 10_000], ids=range(10)
)
def test_any_key_is_shown_on_one_line(key: Any) -> None:
    """A key that is no text, or no word, is a problem like any unknown key."""
    _, (problem,) = params.check({"audio": {**GOOD, key: 1}}, "audio", Audio)
    assert problem.startswith("params.yaml: audio")
    if key != "\ud800":  # which pydantic does not take for text
        assert problem.endswith(f"is not a parameter; expected one of {KEYS}. {ADVICE}")
    assert len(problem) < 400
    assert problem.encode().splitlines() == [problem.encode()]


@pytest.mark.parametrize(
    "value", ["x" * 10**6, [1] * 10**5, {"a" * 10**5: 1}, 16**5000, "a\nb"], ids=range(5)
)
def test_any_value_is_shown_on_one_short_line(value: Any) -> None:
    """A long value is cut, and a number that Python does not write is described."""
    _, (problem,) = params.check({"audio": {**GOOD, "padding": value}}, "audio", Audio)
    assert problem.startswith("params.yaml: audio.padding must be 'edge' or 'constant', is ")
    assert len(problem) < 400
    assert problem.encode().splitlines() == [problem.encode()]


@pytest.mark.parametrize("key", ["features./srv/x", "features. x", "features.-x", "features.${x}"])
def test_a_path_of_a_parameter_has_only_words(key: str) -> None:
    """A stage that gets the name of a section on its command line takes no path for one."""
    name = key.partition(".")[2]
    _, (problem,) = params.check({"features": {name: {}}}, key, dict[str, Any])
    assert problem.startswith(f"params.yaml: {key}: the name {name!r} must be a word")


def test_text_is_one_line() -> None:
    """No text has a line break, or a null character, which no path can have."""
    adapter = TypeAdapter(params.Text)
    for wrong in ("a\nb", "a\0b", "\x85", "x" * 4097):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)
    assert adapter.validate_python("größe \u3000 名") == "größe \u3000 名"


def _sections(base: type[params.Section] = params.Section) -> Iterator[type[params.Section]]:
    for section in base.__subclasses__():
        if section.__module__.startswith("pipeline."):
            yield section
            yield from _sections(section)


def _unbounded(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Yield the path of each number without two bounds, and of each list and text without a length."""
    kind = schema.get("type")
    if kind in ("integer", "number"):
        lower = {"minimum", "exclusiveMinimum"} & schema.keys()
        upper = {"maximum", "exclusiveMaximum"} & schema.keys()
        yield from [path] if not (lower and upper) else []
    elif kind == "string" and not {"enum", "const"} & schema.keys():
        exact = str(schema.get("pattern", "")).endswith("}$")
        yield from [path] if not ("maxLength" in schema or exact) else []
    elif kind == "array":
        yield from [path] if "maxItems" not in schema else []
        yield from _unbounded(schema["items"], f"{path}[]")
    for option in schema.get("anyOf", []):
        yield from _unbounded(option, path)
    for name in ("additionalProperties", "propertyNames"):
        if isinstance(schema.get(name), dict):
            yield from _unbounded(schema[name], f"{path}.*")
    for name, field in {**schema.get("properties", {}), **schema.get("$defs", {})}.items():
        yield from _unbounded(field, f"{path}.{name}")


def test_every_parameter_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number has a lower and an upper bound, each list and text a greatest length, in every section."""
    monkeypatch.chdir(ROOT)
    for group in ("features", "models"):
        for file in (ROOT / "pipeline" / group).glob("[a-z]*.py"):
            importlib.import_module(f"pipeline.{group}.{file.stem}")
    importlib.import_module("pipeline.commands.check")
    sections = set(_sections())
    assert len(sections) > 25
    for section in sections:
        schema = section.model_json_schema()
        assert list(_unbounded(schema, section.__name__)) == []


def test_the_test_of_bounds_finds_what_lacks_them() -> None:
    """Numbers with one bound, also in lists, in dicts and beside null, are found."""

    class Loose(params.Section):
        a: int = Field(ge=0)
        b: float | None = Field(le=0)
        c: list[int] = Field(max_length=3)
        d: dict[str, float]
        e: str
        f: int = Field(gt=0, lt=3)
        inner: Inner

    assert list(_unbounded(Loose.model_json_schema(), "")) == [
        ".a", ".b", ".c[]", ".d.*", ".e", ".Inner.b", ".Inner.c",
    ]  # fmt: skip


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
        f"params.yaml: y.d is not a parameter; expected one of a, inner. {ADVICE}",
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
