"""Classify recordings with an exported model, without TensorFlow."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import audio
from pipeline.parallel import jobs
from pipeline.serving import formats
from pipeline.serving.description import Description
from pipeline.serving.windows import Heard, heard, windows

MODEL = Path("models/export/model.tflite")
# Recordings classified at once.
BATCH_SIZE = 64
NOT_FINITE = "is too loud: its probabilities are not numbers"


@dataclass(frozen=True)
class Prediction:
    """The result for one recording: its probabilities, or the problem with it."""

    path: str
    probabilities: dict[str, float]  # by label, the most probable first; empty if there is a problem
    problem: str | None = None
    is_cut: bool = False  # whether the recording is longer than the part that was classified

    @property
    def label(self) -> str:
        """The most probable label. Raises ValueError if the recording could not be classified."""
        if self.problem is not None:
            raise ValueError(f"{self.path}: {self.problem}")
        return next(iter(self.probabilities))

    @property
    def probability(self) -> float:
        """The probability of that label. Raises ValueError if the recording could not be classified."""
        return self.probabilities[self.label]


class Predictor:
    """A model that classifies waveforms and recordings.

    Args:
        model: the path of a .tflite, .onnx or .keras file, or of a SavedModel's folder.
        threads: how many threads run the model; by default one per core. TensorFlow, which runs .keras files
            and SavedModels, chooses that itself.

    Raises:
        PipelineError: there is no such model, or it is not one of this project.
    """

    def __init__(self, model: Path | str = MODEL, *, threads: int | None = None) -> None:
        loaded = formats.load(Path(model), threads or jobs())
        self._run = loaded.run
        self.description: Description = loaded.description

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of the probabilities."""
        return self.description.labels

    def __call__(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities (clips, labels) of `waveforms` (clips, samples), both float32.

        A waveform has the model's sample rate and length, and full scale at ±1.
        Raises ValueError if the shape is another.
        """
        samples = self.description.audio.samples
        if waveforms.ndim != 2 or waveforms.shape[1] != samples:
            raise ValueError(f"waveforms must have the shape (clips, {samples}), have {waveforms.shape}")
        return self._run(waveforms) if len(waveforms) else np.zeros((0, len(self.labels)), np.float32)

    def files(self, paths: Path | str | Iterable[Path | str]) -> Iterator[Prediction]:
        """Yield the prediction for each file, or for the one file, in order. Files are read in batches of 64.

        They are decoded, resampled, and cut or padded as the training clips were. A file that cannot be read
        yields a prediction with a problem.
        """
        several = [paths] if isinstance(paths, (str, Path)) else paths
        return self.contents((str(path), Path(path).read_bytes) for path in several)

    def contents(self, named: Iterable[tuple[str, Callable[[], bytes]]]) -> Iterator[Prediction]:
        """Yield the same for files that are given as a name and a function that reads the file."""
        remaining = iter(named)
        while batch := list(islice(remaining, BATCH_SIZE)):
            yield from self._batch(batch)

    def _batch(self, named: list[tuple[str, Callable[[], bytes]]]) -> list[Prediction]:
        sound = self.description.audio
        files, problems = _read(named)
        waveforms, decoded = audio.decode(
            list(files.values()),
            sample_rate=sound.sample_rate,
            duration=sound.duration,
            padding=sound.padding,
        )
        probabilities = self(waveforms)
        predictions = {}
        for name, result, row in zip(files, decoded, probabilities, strict=True):
            if result.recorded is None:
                problems[name] = str(result.problem)
                continue
            if not np.isfinite(row).all():
                problems[name] = NOT_FINITE
                continue
            seconds = result.recorded.samples / result.recorded.sample_rate
            predictions[name] = Prediction(name, self._ranked(row), is_cut=seconds > sound.duration)
        return [predictions.get(name) or Prediction(name, {}, problems[name]) for name, _ in named]

    def listen(self, content: bytes, *, hop: float = 0.1, threshold: float = 0.5) -> list[Heard]:
        """Return the words in a recording of any length, by windows as long as a clip.

        Overlapping windows with the same label are one word, also if it was said twice. Without a label for
        other words and for silence, the model also hears its words where there are none.

        Args:
            content: the bytes of the recording's file.
            hop: from one window to the next, in seconds; at most as long as a window.
            threshold: the probability that a window's label must have to count.

        Raises:
            Undecodable: the recording cannot be read.
            ValueError: `hop` is not above 0, or longer than a window.
        """
        sound = self.description.audio
        if not 0 < hop <= sound.duration:
            raise ValueError(f"hop must be above 0 and at most {sound.duration:g} seconds, is {hop:g}")
        waveform = audio.decode_whole(content, sample_rate=sound.sample_rate)
        step = max(1, round(hop * sound.sample_rate))
        seconds = len(waveform) / sound.sample_rate
        if seconds < sound.duration:
            waveform = audio.fix_length(waveform[None], sound.samples, sound.padding)[0]
        views = windows(waveform, sound.samples, step)
        rows = [self(views[start : start + BATCH_SIZE]) for start in range(0, len(views), BATCH_SIZE)]
        probabilities = np.concatenate(rows)
        if not np.isfinite(probabilities).all():
            raise audio.Undecodable(NOT_FINITE)
        words = heard(
            probabilities,
            self.labels,
            duration=sound.duration,
            hop=step / sound.sample_rate,
            threshold=threshold,
        )
        return [word._replace(end=min(word.end, seconds)) for word in words]

    def _ranked(self, probabilities: NDArray[np.float32]) -> dict[str, float]:
        order = np.argsort(-probabilities, kind="stable")
        return {self.labels[index]: float(probabilities[index]) for index in order}


def _read(
    named: Iterable[tuple[str, Callable[[], bytes]]],
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the content of each file that can be read, and for each other file the reason."""
    files, problems = {}, {}
    for name, read in named:
        try:
            files[name] = read()
        except OSError as error:
            problems[name] = str(error.strerror or error)
    return files, problems
