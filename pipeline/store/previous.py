"""What a stage's last run left behind, so that the next one computes only what is new.

DVC deletes a stage's outputs before it runs the stage, and would stop sharing its runs if told not to
(`persist`). So each run keeps its outputs in a folder that is no output too: data/kept/<stage>. Stores are
linked, as they know the checksum of each row, and take up no space before `dvc repro` writes another; tables
are copied. The folder may be deleted at any time.
"""

import json
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pipeline
from pipeline.errors import PipelineError
from pipeline.files import replacing
from pipeline.store.layout import Store, describe, digests

KEPT = Path("data/kept")
KEY = "made-by.json"
STORE = ".h5"
# Whose results are in the rows.
LIBRARIES = ("librosa", "numpy", "scipy", "soundfile", "soxr")


class Kept:
    """What `stage` keeps; to be made when the stage begins, as its code may be edited while it runs."""

    def __init__(self, stage: str) -> None:
        self._folder = KEPT / stage
        self._made_by = {"pipeline": _code(), **{library: version(library) for library in LIBRARIES}}

    def store(self, name: str, beside: Sequence[str] = ()) -> Store | None:
        """Return the store `name` that the last run left with the tables `beside` it.

        None where there is none, where other code or libraries made it, or where anything about it is not as
        it was left. All of the project's code counts: the stage's own is not known here, and copying too
        little does no harm.
        """
        try:
            made_by = json.loads((self._folder / KEY).read_text(encoding="utf-8"))
            tables = [self._folder / table for table in beside]
            if made_by == {**self._made_by, "tables": _contents(tables)}:
                return describe(self._folder / name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, PipelineError) as error:
            print(f"{self._folder} is not as it was left, so all is computed anew: {error}", flush=True)
        return None

    def keep(self, outputs: list[Path]) -> None:
        """Keep `outputs` for the next run of the stage, in place of those of its last."""
        if _code() != self._made_by["pipeline"]:
            print(f"the code was edited during the run: {self._folder} is left as it is", flush=True)
            return
        with replacing(self._folder) as part:
            part.mkdir()
            tables = []
            for output in outputs:
                if output.suffix == STORE:
                    _link(output, part / output.name)
                else:
                    tables.append(Path(shutil.copyfile(output, part / output.name)))
            made_by = {**self._made_by, "tables": _contents(tables)}
            (part / KEY).write_text(json.dumps(made_by), encoding="utf-8")


def _link(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except OSError:  # a file system without links
        shutil.copyfile(path, to)


def _contents(paths: Sequence[Path]) -> dict[str, str]:
    return {path.name: digests([path.read_bytes()])[0].tobytes().hex() for path in paths}


def _code() -> str:
    code = sorted(Path(str(pipeline.__file__)).parent.rglob("*.py"))
    contents = b"".join(digests([path.read_bytes() for path in code if path.stat().st_size]).tolist())
    return str(digests([contents])[0].tobytes().hex())
