"""The project's command line, and temporary clones in which the real `dvc` runs on a small demo archive."""

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.learning.runtime import SAME_ROUNDING

ROOT = Path(__file__).resolve().parent.parent
# Real clips, which some tests use if they are there.
DATA = ROOT.parent / "shared" / "data"
# The type of the fixture `record`, which writes a recording and returns its path.
Record = Callable[..., Path]
# Parameters that make a run short: few clips, tiny models, one epoch.
SMALL = {
    "feature": "stft",
    "model": "rnn",
    "datasets.demo.labels": ["go", "stop", "yes"],
    "datasets.demo.voices": 8,
    "datasets.demo.clips_per_label": 8,
    "datasets.demo.noise_seconds": 10.0,
    "models.rnn.units": 4,
    "models.cnn.filters": [2],
    "models.cnn.pool": [[2, 2]],
    "models.cnn.units": 4,
    "train.epochs": 1,
    "export.formats": [],
}
RAN = re.compile(r"^Running stage '(.+)':", re.MULTILINE)
RESTORED = re.compile(r"^Stage '(.+)' is cached - skipping run, checking out outputs", re.MULTILINE)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table, each as a dict by column, as a spreadsheet would show them."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fresh_environment() -> dict[str, str]:
    """Return the environment without what `runtime.start` has set in this process for TensorFlow."""
    return {name: value for name, value in os.environ.items() if name not in SAME_ROUNDING}


def pipeline(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run `python -m pipeline` with `arguments` in the folder `cwd`, and return what it printed."""
    return python("-m", "pipeline", *arguments, cwd=cwd)


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python, which finds this project, with `arguments` in the folder `cwd`; return what it printed."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


class Project:
    """A clone. `run` and `repro` run what a user would type."""

    def __init__(self, path: Path, origin: Path | None = None, *, copied: Path | None = None) -> None:
        """Clone the repository `origin`, copy the clone `copied`, or clone this project, made small."""
        self.path = path
        self._env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(path.parent),
            "DVC_SITE_CACHE_DIR": str(path.parent / "dvc"),  # a remote of another test must not count
            "GIT_AUTHOR_NAME": "t",
            "GIT_AUTHOR_EMAIL": "t@example.com",
            "GIT_COMMITTER_NAME": "t",
            "GIT_COMMITTER_EMAIL": "t@example.com",
        }
        if copied:
            shutil.copytree(copied, path, symlinks=True)
            return
        path.mkdir(parents=True)
        if origin:
            self.run("git", "clone", "-q", str(origin), ".")
            return
        tracked = self.run("git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard").split("\0")
        for name in filter(None, tracked):
            if (ROOT / name).exists():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, path / name)
        self.set_params(SMALL)
        self.run("git", "init", "-q", "-b", "main")
        self.commit()

    def run(self, *command: str) -> str:
        """Run a command in the clone, which must succeed, and return what it printed."""
        result = self._run(*command)
        assert result.returncode == 0, result.stdout
        return result.stdout

    def fails(self, *command: str) -> str:
        """Run a command in the clone, which must fail, and return what it printed."""
        result = self._run(*command)
        assert result.returncode != 0, result.stdout
        return result.stdout

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.path,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def export(self) -> None:
        """Export the model to LiteRT, which `SMALL` leaves out."""
        self.set_params({"export.formats": ["litert"]})
        self.run(sys.executable, "-m", "pipeline.stages.export")

    def commit(self) -> None:
        """Commit everything."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "state")

    def set_params(self, values: dict[str, Any]) -> None:
        """Set parameters in params.yaml, by their paths."""
        yaml = YAML()
        file = self.path / "params.yaml"
        params = yaml.load(file.read_text(encoding="utf-8"))
        for key, value in values.items():
            *sections, name = key.split(".")
            section = params
            for key_part in sections:
                section = section[key_part]
            section[name] = value
        with file.open("w", encoding="utf-8") as out:
            yaml.dump(params, out)

    def repro(self, *args: str) -> set[str]:
        """Run `dvc repro` and return the stages that ran, without those that were restored from the cache."""
        return set(RAN.findall(self.run("dvc", "repro", *args)))
