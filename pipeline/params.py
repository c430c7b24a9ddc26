"""Read a section of params.yaml into the type that its user declares.

`python -m pipeline check` checks the whole file.
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
P = TypeVar("P", bound="Plugin")


def project() -> Path:
    """Return the project's own folder, even if the current folder is a copy of it.

    Paths in params.yaml are relative to it. DVC runs a queued experiment in a copy below the project's
    `.dvc/tmp`, and deletes the copy afterwards.
    """
    here = Path.cwd()
    return next((folder for folder in here.parents if here.is_relative_to(folder / ".dvc" / "tmp")), here)


class Section(BaseModel):
    """One section of params.yaml: its keys, their types and bounds. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Plugin(Section):
    """A section whose code is one file of a package: `features.stft` is `STFT` in pipeline/features/stft.py.

    The package declares what its files have in common, in a subclass of this class.
    """

    @classmethod
    def by_name(cls, name: str) -> type[Self]:
        """Return the subclass of this class that the package's file `name` defines.

        The class has the file's name, ignoring case and underscores: `TCResNet` is in tcresnet.py.
        Raises PipelineError if there is no such file, or no such class in it.
        """
        package = cls.__module__
        title = _plain(name)
        try:
            module = importlib.import_module(f"{package}.{name}") if name.isidentifier() else None
        except ModuleNotFoundError as error:
            if error.name != f"{package}.{name}":
                raise  # the file exists, but something that it imports does not
            module = None
        for value in vars(module).values() if module else ():
            if isinstance(value, type) and issubclass(value, cls) and _plain(value.__name__) == title:
                return value
        folder = package.replace(".", "/")
        raise PipelineError(f"{name} has no code: expected {folder}/{name}.py with a class {_title(name)}")


def _folder(base: type[Plugin]) -> str:
    return base.__module__.replace(".", "/")


def _title(name: str) -> str:
    return name.title().replace("_", "")


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def read(key: str, kind: type[T], *, overrides: str | None = None) -> T:
    """Return the parameter or section at `key` of params.yaml (`audio`, `features.stft`) as a `kind`.

    Args:
        key: the path in params.yaml.
        kind: the type, or the subclass of `Section`, that the value must have.
        overrides: the path of a section whose values replace those at `key`, if it exists.

    Raises:
        PipelineError: the value is missing or wrong; the message has one line per problem.
    """
    return _value(*check(load(), key, kind, overrides=overrides))


def read_plugin(key: str, base: type[P]) -> P:
    """Return the section at `key` (`features.stft`) as the subclass of `base` that implements it.

    The section's `kind` names that subclass; a section without one is its own kind.
    Raises PipelineError with one line per problem.
    """
    return _value(*check_plugin(load(), key, base))


def _value(value: T | None, problems: list[str]) -> T:
    if value is None:
        raise PipelineError("\n".join(problems))
    return value


def load() -> dict[str, Any]:
    """Return params.yaml as nested dicts. It is read as YAML 1.2: `1e-5` is a number, `no` is a word.

    Raises PipelineError if the file is missing, is not YAML, or is not a mapping.
    """
    try:
        content = _parse(FILE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{FILE} is missing: run the command in the project's root folder") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{FILE} is not YAML: {error}: correct it there") from None
    if not isinstance(content, dict):
        raise PipelineError(f"{FILE} must contain sections such as `audio:`, is {content!r}: add them")
    return content


@lru_cache(maxsize=1)
def _parse(text: str) -> Any:
    # A stage reads several sections, and parsing takes a tenth of a second.
    return YAML(typ="safe", pure=True).load(text)


def check(
    content: dict[str, Any], key: str, kind: type[T], *, overrides: str | None = None
) -> tuple[T | None, list[str]]:
    """Return what `content` has at `key` as a `kind`, or None, and one line per problem.

    `content` is params.yaml as `load` returns it; the other arguments are those of `read`.
    """
    section: Any = content
    for name in key.split("."):
        if not isinstance(section, dict) or name not in section:
            nested = isinstance(section, dict) and section is not content
            known = f"; expected one of {', '.join(map(str, section))}" if nested else ""
            return None, [f"{FILE}: {key} is missing{known}"]
        section = section[name]
    value, problems = _validate(section, key, kind)
    override: Any = content
    for name in overrides.split(".") if overrides else ():
        override = override.get(name) if isinstance(override, dict) else None
    if overrides is None or override is None or problems:
        return value, problems
    return _validate(merged(section, override), overrides, kind)


def check_plugin(content: dict[str, Any], key: str, base: type[P]) -> tuple[P | None, list[str]]:
    """Return what `content` has at `key` as the subclass of `base` that `read_plugin` describes.

    That is None if there are problems, which come as one line each.
    """
    section, problems = check(content, key, dict[str, Any])
    if section is None:
        return None, problems
    if "kind" in base.model_fields and "kind" not in section:
        return None, [f"{FILE}: {key}.kind is missing: set it to the name of a file in {_folder(base)}"]
    try:
        plugin = base.by_name(str(section.get("kind", key.rpartition(".")[2])))
    except PipelineError as error:
        return None, [f"{FILE}: {key}: {error}"]
    return check(content, key, plugin)


def _validate(section: Any, key: str, kind: type[T]) -> tuple[T | None, list[str]]:
    try:
        return TypeAdapter(kind).validate_python(section, strict=True), []
    except ValidationError as error:
        return None, [f"{FILE}: {_message(key, kind, details)}" for details in error.errors()]


def merged(section: Any, override: Any) -> Any:
    """Return `section` with the values of `override` in place of its own, one by one at every level."""
    if not isinstance(section, dict) or not isinstance(override, dict):
        return override
    return {**section, **{key: merged(section.get(key), value) for key, value in override.items()}}


def unknown(path: str, name: str, known: list[str]) -> str:
    """Return the message for a key `name`, at `path`, that is not one of the `known` keys."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
    return f"{path} is not a parameter; {hint}"


# What was expected, by pydantic's kind of error. Other kinds keep pydantic's message.
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


def _message(key: str, kind: type[Any], error: ErrorDetails) -> str:
    path = key + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    context = error.get("ctx", {})
    value = "null" if error["input"] is None else repr(error["input"])
    match error["type"]:
        case "missing":
            return f"{path} is missing"
        case "extra_forbidden":
            fields = getattr(kind, "model_fields", {})
            return unknown(
                path, str(error["loc"][-1]), [field.alias or name for name, field in fields.items()]
            )
        case "value_error":
            return f"{path} {context['error']}"
        case other if other in EXPECTED:
            return f"{path} must be {EXPECTED[other].format(**context)}, is {value}"
        case _:
            return f"{path}: {error['msg']}, is {value}"
