"""data/raw → data/waveforms.h5, data/clips.csv, data/rejects.csv: every clip as an array, read once."""

from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from pipeline import params
from pipeline.corpus import clips
from pipeline.corpus.audio import Audio, Recording, Undecodable, decode
from pipeline.corpus.clips import Clip, Naming
from pipeline.errors import PipelineError, run
from pipeline.files import replacing, write_csv
from pipeline.store import writer
from pipeline.store.layout import Rows, describe
from pipeline.store.reader import rows

RAW = Path("data/raw")
WAVEFORMS = Path("data/waveforms.h5")


def main() -> None:
    """Decode all clips; fail where more than `audio.max_rejects` cannot be."""
    audio = params.read("audio", Audio)
    naming = params.read("clips", Naming)
    found = clips.find(RAW)
    write = partial(
        writer.write,
        row_shape=(audio.samples,),
        params={"audio": audio.model_dump(include={"sample_rate", "duration", "padding"})},
    )
    with replacing(WAVEFORMS) as store:
        blocks = write(store, partial(_decode, found, audio, naming), clips=found, verb="decode")
        notes = list(chain.from_iterable(blocks))
        kept = [number for number, note in enumerate(notes) if isinstance(note, Clip)]
        good = [note for note in notes if isinstance(note, Clip)]
        rejects = [(clip, note) for clip, note in zip(found, notes, strict=True) if isinstance(note, str)]
        _check(rejects, audio.max_rejects, len(good))
        if rejects:
            write(store, partial(_copy, store, kept), clips=[clip.clip for clip in good], verb="keep")
    clips.write(Path("data/clips.csv"), good)
    write_csv(Path("data/rejects.csv"), ["clip", "reason"], rejects)


def _decode(
    found: list[str], audio: Audio, naming: Naming, start: int, stop: int
) -> tuple[Rows, list[Clip | str]]:
    waveforms = np.zeros((stop - start, audio.samples), np.float32)
    notes: list[Clip | str] = []
    for row, clip in zip(waveforms, found[start:stop], strict=True):
        try:
            recording = decode(RAW / clip, audio)
        except Undecodable as reason:
            notes.append(str(reason))
        else:
            row[:] = recording.waveform
            notes.append(_describe(clip, recording, naming))
    return waveforms, notes


def _describe(clip: str, recording: Recording, naming: Naming) -> Clip:
    return Clip(
        clip=clip,
        label=clip.partition("/")[0],
        speaker=clips.speaker(clip, naming),
        sample_rate=recording.sample_rate,
        samples=recording.samples,
        md5=recording.md5,
    )


def _copy(store: Path, kept: list[int], start: int, stop: int) -> tuple[Rows, None]:
    return rows(describe(store))[kept[start:stop]], None


def _check(rejects: list[tuple[str, str]], allowed: int, good: int) -> None:
    if len(rejects) > allowed or not good:
        named = "\n".join(f"  {clip}: {reason}" for clip, reason in rejects)
        raise PipelineError(
            f"{len(rejects)} of {len(rejects) + good} clips cannot be decoded, {allowed} may be (params.yaml:"
            f" audio.max_rejects):\n{named}\nMend or remove them, or raise audio.max_rejects"
        )


if __name__ == "__main__":
    run(main)
