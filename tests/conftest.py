"""What the tests share: the project's folder, real clips, and small recordings of any format."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"

Record = Callable[..., Path]


@pytest.fixture(scope="session")
def real_archive() -> Path:
    """The eight words of the Speech Commands test set, as they were recorded."""
    path = DATA / "speech_commands_8words.zip"
    if not path.exists():
        pytest.skip(f"no real clips: {path.name} does not lie in shared/data beside the project")
    return path


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """A function that writes a recording of noise and returns its path."""

    def write(
        name: str,
        *,
        rate: int = 16000,
        samples: int = 16000,
        channels: int = 1,
        seed: int = 0,
        subtype: str | None = None,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels))
        soundfile.write(path, noise, rate, subtype=subtype)
        return path

    return write
