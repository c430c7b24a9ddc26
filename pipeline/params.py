"""Reads a section of params.yaml into the type that its user declares.

`python -m pipeline.commands.check` checks the whole file.
"""

import difflib
import importlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import PipelineError

FILE = Path("params.yaml")

T = TypeVar("T")


class Section(BaseModel):
    """One section of params.yaml: its keys, their types and bounds. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Choice(Section):
    """A section that one of several files configures: a subclass is found by the section's name.

    The class of `features.stft` is `Stft` in pipeline/features/stft.py, where pipeline/features declares
    what all of them have in common.
    """

    @classmethod
    def named(cls, name: str) -> type[Self]:
        """Return the subclass called `name`; raise PipelineError where it has no file, or is not in it."""
        package = cls.__module__
        module, title = f"{package}.{name}", name.capitalize()
        try:
            found: type[Self] = getattr(importlib.import_module(module), title)
        except (ModuleNotFoundError, AttributeError) as error:
            if isinstance(error, ModuleNotFoundError) and error.name != module:
                raise  # the file is there; what it imports is not
            raise PipelineError(
                f"{FILE}: {package.rpartition('.')[2]}.{name} has no code: expected"
                f" {module.replace('.', '/')}.py with a class {title}"
            ) from None
        return found


def read(key: str, kind: type[T], *, over: str | None = None) -> T:
    """Return the parameter or section at `key` (`audio`, `features.stft`) of params.yaml as a `kind`.

    What stands at `over`, if anything does, takes the place of what stands under the same name at `key`.
    Raises PipelineError with a line for each mistake.
    """
    value, mistakes = check(load(), key, kind, over=over)
    if value is None:
        raise PipelineError("\n".join(mistakes))
    return value


def load() -> dict[str, Any]:
    """Return params.yaml as nested dicts, read as YAML 1.2: `1e-5` is a number, `no` is a word.

    Raises PipelineError where the file is missing, is no YAML or is no mapping.
    """
    try:
        content = _parse(FILE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{FILE} is missing: run from the project's root folder") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{FILE} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise PipelineError(f"{FILE} must hold sections such as `audio:`, holds {content!r}")
    return content


@lru_cache(maxsize=1)
def _parse(text: str) -> Any:
    # A stage reads several sections, and parsing takes a tenth of a second.
    return YAML(typ="safe", pure=True).load(text)


def check(
    params: dict[str, Any], key: str, kind: type[T], *, over: str | None = None
) -> tuple[T | None, list[str]]:
    """Return what stands at `key`, and `over` it, as a `kind`, or None, and a line for each mistake in it."""
    section: Any = params
    for name in key.split("."):
        if not isinstance(section, dict) or name not in section:
            there = isinstance(section, dict) and section is not params
            known = f"; expected one of {', '.join(map(str, section))}" if there else ""
            return None, [f"{FILE}: {key} is missing{known}"]
        section = section[name]
    value, mistakes = _validate(section, key, kind)
    others: Any = params
    for name in over.split(".") if over else ():
        others = others.get(name) if isinstance(others, dict) else None
    if over is None or others is None or mistakes:
        return value, mistakes
    return _validate(_merged(section, others), over, kind)


def _validate(section: Any, key: str, kind: type[T]) -> tuple[T | None, list[str]]:
    try:
        return TypeAdapter(kind).validate_python(section, strict=True), []
    except ValidationError as error:
        return None, [f"{FILE}: {_mistake(key, kind, each)}" for each in error.errors()]


def _merged(section: Any, others: Any) -> Any:
    if not isinstance(section, dict) or not isinstance(others, dict):
        return others
    return {**section, **{key: _merged(section.get(key), value) for key, value in others.items()}}


def unknown(path: str, name: str, known: list[str]) -> str:
    """Return what to say of `name`, at `path`, which is not among the `known` ones."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
    return f"{path} is not a parameter; {hint}"


# What pydantic's kinds of error expected; the rest are said in pydantic's words.
EXPECTED = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "text like {pattern}",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a section of parameters",
    "model_type": "a section of parameters",
}


def _mistake(key: str, kind: type[Any], error: ErrorDetails) -> str:
    path = key + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    context = error.get("ctx", {})
    found = "null" if error["input"] is None else repr(error["input"])
    match error["type"]:
        case "missing":
            return f"{path} is missing"
        case "extra_forbidden":
            return unknown(path, str(error["loc"][-1]), list(getattr(kind, "model_fields", {})))
        case "value_error":
            return f"{path} {context['error']}"
        case other if other in EXPECTED:
            return f"{path} must be {EXPECTED[other].format(**context)}, is {found}"
        case _:
            return f"{path}: {error['msg']}, is {found}"
