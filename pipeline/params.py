"""Read a section of params.yaml into the type that its user declares.

`python -m pipeline check` checks the whole file.
"""

import difflib
import importlib
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, core_schema
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from pipeline.errors import PipelineError

FILE = Path("params.yaml")
# A file beyond these limits is not a file of parameters. Without them, a few bytes of YAML could stand for
# billions of values, by aliases, or for a value inside itself.
MAX_BYTES, MAX_DEPTH, MAX_VALUES = 200_000, 20, 100_000
# A longer value, and a longer line of a message, is shortened.
MAX_SHOWN, MAX_LINE, MAX_LISTED = 200, 1000, 50

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
# The keys of a file's description in DVC, whose run-cache does not see that they change.
RESERVED = ("size", "nfiles")

T = TypeVar("T")
P = TypeVar("P", bound="Plugin")


def project() -> Path:
    """Return the project's own folder, even if the current folder is a copy of it.

    Paths in params.yaml are relative to it. DVC runs a queued experiment in a copy below the project's
    `.dvc/tmp`, and deletes the copy afterwards.
    """
    here = Path.cwd()
    return next((folder for folder in here.parents if here.is_relative_to(folder / ".dvc" / "tmp")), here)


def name_problem(name: object) -> str | None:
    """Return why `name` cannot be that of a data set, a feature or a model, or None if it can.

    It becomes a part of paths and of DVC's keys, in which a dot leads into a nested section.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        return "must be a word: at most 64 letters (a to z), digits, - or _, and no - at the beginning"
    return f"must not be called {name}, a name that DVC's run-cache ignores" if name in RESERVED else None


class Name(str):
    """The name of a data set, a feature or a model, as `name_problem` allows it."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> CoreSchema:
        """Return how pydantic validates a name."""
        return core_schema.no_info_after_validator_function(cls._checked, core_schema.str_schema(strict=True))

    @classmethod
    def _checked(cls, name: str) -> Self:
        problem = name_problem(name)
        if problem:
            raise ValueError(f"{problem}, is {shown(name)}")
        return cls(name)


def _one_line(text: str) -> str:
    if re.search(r"[\x00-\x1f\x7f-\x9f]", text):
        raise ValueError(f"must be one line without control characters, is {shown(text)}")
    return text


# Types that several sections use.
Text = Annotated[str, Field(max_length=4096), AfterValidator(_one_line)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # NumPy and Keras take no other


class Section(BaseModel):
    """One section of params.yaml: its keys, their types and bounds. Unknown keys are errors.

    Every number has a lower and an upper bound, every list and text a greatest length. The bounds refuse only
    what is absurd: a mistake, which would otherwise end in a lack of memory or in numbers without a meaning.
    """

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
            known = re.fullmatch("[a-z][a-z0-9_]{0,63}", name)
            module = importlib.import_module(f"{package}.{name}") if known else None
        except ModuleNotFoundError as error:
            if error.name != f"{package}.{name}":
                raise  # the file exists, but something that it imports does not
            module = None
        for value in vars(module).values() if module else ():
            if isinstance(value, type) and issubclass(value, cls) and _plain(value.__name__) == title:
                return value
        folder = package.replace(".", "/")
        name = _plain_or_shown(name)
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

    Raises PipelineError if the file is missing, is not YAML, is not a mapping, or has more or deeper values
    than any file of parameters.
    """
    if not FILE.exists():
        raise PipelineError(
            f"{FILE} is missing: run the command in the project's root folder, or run git restore {FILE}"
        )
    if not FILE.is_file():  # a pipe would wait for somebody who writes
        raise PipelineError(f"{FILE} is not a file: move away what has its name, and run git restore {FILE}")
    with FILE.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise PipelineError(f"{FILE} has more than {MAX_BYTES:,} bytes: shorten it")
    parsed = _parse(content)
    if not isinstance(parsed, dict):
        raise PipelineError(
            f"{FILE} must contain sections such as `audio:`, is {shown(parsed)}: run git restore {FILE}"
        )
    return parsed


@lru_cache(maxsize=1)
def _parse(content: bytes) -> Any:
    # A stage reads several sections, and parsing takes a tenth of a second.
    try:
        parsed = YAML(typ="safe", pure=True).load(content.decode())
    except RecursionError:
        raise _too_deep() from None
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        reason = f"{line}{error.problem or error.context}"
    except Exception as error:  # noqa: BLE001 - ruamel.yaml has many, such as ValueError for the date 2020-13-45
        reason = str(error) or type(error).__name__
    else:
        _check_size(parsed)
        return parsed
    raise PipelineError(
        _line(f"{FILE} is not YAML: {' '.join(reason.split())}: correct it there, or just above")
    )


def _check_size(parsed: object) -> None:
    """Raise PipelineError if `parsed` has too many values, or is nested too deeply."""
    values, count = [(parsed, 0)], 0
    while values:
        value, depth = values.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        if count > MAX_VALUES:
            raise PipelineError(f"{FILE} has more than {MAX_VALUES:,} values: shorten it")
        if isinstance(value, dict):
            values += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list | tuple | set):
            values += [(part, depth + 1) for part in value]


def _too_deep() -> PipelineError:
    return PipelineError(f"{FILE} has values nested deeper than {MAX_DEPTH} levels: correct it")


def check(
    content: dict[str, Any], key: str, kind: type[T], *, overrides: str | None = None
) -> tuple[T | None, list[str]]:
    """Return what `content` has at `key` as a `kind`, or None, and one line per problem.

    `content` is params.yaml as `load` returns it; the other arguments are those of `read`.
    """
    section: Any = content
    for name in key.split("."):
        problem = name_problem(name)
        if problem:
            return None, [_line(f"{FILE}: {key}: the name {shown(name)} {problem}")]
        if not isinstance(section, dict) or name not in section:
            nested = isinstance(section, dict) and section is not content
            known = f"; expected one of {listed(section)}" if nested else ""
            return None, [_line(f"{FILE}: {key} is missing{known}")]
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
    kind = section.get("kind", key.rpartition(".")[2])
    if not isinstance(kind, str):
        return None, [_line(f"{FILE}: {key}.kind must be text, is {shown(kind)}")]
    try:
        plugin = base.by_name(kind)
    except PipelineError as error:
        return None, [f"{FILE}: {key}: {error}"]
    return check(content, key, plugin)


def _validate(section: Any, key: str, kind: type[T]) -> tuple[T | None, list[str]]:
    try:
        return TypeAdapter(kind).validate_python(section, strict=True), []
    except ValidationError as error:
        return None, [_line(f"{FILE}: {_message(key, kind, details)}") for details in error.errors()]


def merged(section: Any, override: Any) -> Any:
    """Return `section` with the values of `override` in place of its own, one by one at every level."""
    if not isinstance(section, dict) or not isinstance(override, dict):
        return override
    return {**section, **{key: merged(section.get(key), value) for key, value in override.items()}}


def unknown(path: str, name: object, known: list[str]) -> str:
    """Return the message for a key `name`, at `path`, that is not one of the `known` keys."""
    near = difflib.get_close_matches(name, known, n=1) if isinstance(name, str) else []
    hint = f"did you mean {near[0]}?" if near else f"expected one of {listed(known)}."
    return _line(f"{path} is not a parameter; {hint} Correct the name there, or delete its line")


def shown(value: object) -> str:
    """Return `value` as a message shows it: on one line, and shortened if it is long."""
    try:
        text = "null" if value is None else repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        text = "a whole number of more than 4,300 digits"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def listed(names: Iterable[object]) -> str:
    """Return `names` as a message lists them, and only the first ones if they are many."""
    words = [_plain_or_shown(name) for name in names]
    return ", ".join([*words[:MAX_LISTED], *(["…"] if len(words) > MAX_LISTED else [])])


def path_of(key: str, *parts: object) -> str:
    """Return the path of a value below `key`: `audio.sample_rate`, `models.cnn.filters[0]`."""
    for part in parts:
        is_word = isinstance(part, str) and NAME.fullmatch(part)
        key += f".{part}" if is_word else f"[{shown(part)}]"
    return key.removeprefix(".")


def _plain_or_shown(name: object) -> str:
    return name if isinstance(name, str) and NAME.fullmatch(name) else shown(name)


def _line(message: str) -> str:
    return message if len(message) <= MAX_LINE else f"{message[:MAX_LINE]}…"


# What was expected, by pydantic's kind of error. Other kinds keep pydantic's message.
EXPECTED = {
    "greater_than": "above {gt:.15g}",
    "greater_than_equal": "at least {ge:.15g}",
    "less_than": "below {lt:.15g}",
    "less_than_equal": "at most {le:.15g}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_long": "text of at most {max_length} characters",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "text that matches {pattern}",
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
    path = path_of(key, *error["loc"])
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return f"{path} is missing"
        case "extra_forbidden" | "invalid_key":
            fields = getattr(kind, "model_fields", {})
            return unknown(path, error["loc"][-1], [field.alias or name for name, field in fields.items()])
        case "value_error":
            return f"{path} {context['error']}"
        case other if other in EXPECTED:
            return f"{path} must be {EXPECTED[other].format(**context)}, is {shown(error['input'])}"
        case _:
            return f"{path}: {error['msg']}, is {shown(error['input'])}"
