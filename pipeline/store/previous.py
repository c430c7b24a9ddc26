"""Keep the outputs of a stage's previous run, so that the next run computes only new clips.

DVC deletes a stage's outputs before it runs the stage. It can be told not to (`persist`), but then it no
longer shares the stage's runs. So each run also keeps its outputs in data/kept/<stage>, which is not an
output. Stores are kept as hard links. They take no space until DVC replaces the output by a copy from its
cache, which it does unless it is set to make hard links itself. Tables are copied. You may delete data/kept
at any time.
"""

import json
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pipeline
from pipeline.errors import PipelineError
from pipeline.files import atomic_write
from pipeline.store.layout import Store, describe, digests

FOLDER = Path("data/kept")
KEY = "made-by.json"
STORE = ".h5"
# The libraries that compute rows.
LIBRARIES = ("librosa", "numpy", "scipy", "soundfile", "soxr")


class PreviousRun:
    """The outputs of the previous run of `stage`.

    Create it when the stage begins: it remembers the code as it is then, and the code may be edited while
    the stage runs.
    """

    def __init__(self, stage: str) -> None:
        self._folder = FOLDER / stage
        self._made_by = {"pipeline": code_digest(), **{library: version(library) for library in LIBRARIES}}

    def store(self, name: str, tables: Sequence[str] = ()) -> Store | None:
        """Return the store `name` that the previous run kept together with `tables`.

        Return None if there is no such store, if other code or library versions wrote it, or if it or a
        table has changed since. All of the project's code counts, because copying too little is harmless.
        """
        try:
            made_by = json.loads((self._folder / KEY).read_text(encoding="utf-8"))
            paths = [self._folder / table for table in tables]
            if made_by == {**self._made_by, "tables": _contents(paths)}:
                return describe(self._folder / name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, PipelineError) as error:
            print(f"{self._folder} has changed, so every clip is computed again: {error}", flush=True)
        return None

    def save(self, outputs: list[Path]) -> None:
        """Keep `outputs` for the next run of the stage, and delete what was kept before."""
        if code_digest() != self._made_by["pipeline"]:
            print(f"the code was edited during the run: {self._folder} is not updated", flush=True)
            return
        try:
            with atomic_write(self._folder) as part:
                part.mkdir()
                tables = []
                for output in outputs:
                    if output.suffix == STORE:
                        _link(output, part / output.name)
                    else:
                        tables.append(Path(shutil.copyfile(output, part / output.name)))
                made_by = {**self._made_by, "tables": _contents(tables)}
                (part / KEY).write_text(json.dumps(made_by), encoding="utf-8")
        except OSError as error:  # the outputs are complete without it
            print(f"{self._folder} is not updated: {error.strerror}", flush=True)


def _link(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except OSError:  # the file system has no hard links
        shutil.copyfile(path, to)


def _contents(paths: Sequence[Path]) -> dict[str, str]:
    return {path.name: digests([path.read_bytes()])[0].tobytes().hex() for path in paths}


def code_digest() -> str:
    """Return a digest of all Python files of this project, as hexadecimal digits."""
    code = sorted(Path(str(pipeline.__file__)).parent.rglob("*.py"))
    contents = b"".join(digests([path.read_bytes() for path in code if path.stat().st_size]).tolist())
    return str(digests([contents])[0].tobytes().hex())
