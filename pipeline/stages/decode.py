"""data/raw → data/waveforms.h5, data/clips.csv, data/rejects.csv: every clip as an array, read once."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline import params
from pipeline.corpus import clips
from pipeline.corpus.audio import Audio, Recorded, decode
from pipeline.corpus.clips import Clip, Naming
from pipeline.errors import PipelineError, run
from pipeline.files import replacing, write_csv
from pipeline.store.layout import describe
from pipeline.store.previous import Kept
from pipeline.store.writer import Known, Work, write

RAW = Path("data/raw")
WAVEFORMS = Path("data/waveforms.h5")
CLIPS = Path("data/clips.csv")


def main() -> None:
    """Decode all clips; fail where more than `audio.max_rejects` cannot be."""
    kept = Kept("decode")
    audio = params.read("audio", Audio)
    naming = params.read("clips", Naming)
    found = clips.find(RAW)
    shape = audio.model_dump(include={"sample_rate", "duration", "padding"})
    fill = partial(
        write,
        work=Work(_read, partial(decode, **shape)),
        row_shape=(audio.samples,),
        dtype="float32",
        params={"audio": shape},
    )
    known = kept.store(WAVEFORMS.name, beside=[CLIPS.name])
    with replacing(WAVEFORMS) as store:
        notes = fill(
            store,
            inputs=found,
            clips=found,
            verb="decode",
            known=known,
        )
        before = clips.read(known.path.with_name(CLIPS.name)) if known else []
        good = [
            _clip(clip, before[note.row] if isinstance(note, Known) else note, naming)
            for clip, note in zip(found, notes, strict=True)
            if not isinstance(note, str)
        ]
        rejects = [(clip, note) for clip, note in zip(found, notes, strict=True) if isinstance(note, str)]
        _check(rejects, audio.max_rejects, len(good))
        if rejects:
            ids = [clip.clip for clip in good]
            fill(store, inputs=ids, clips=ids, verb="keep", known=describe(store))
    clips.write(CLIPS, good)
    write_csv(Path("data/rejects.csv"), ["clip", "reason"], rejects)
    kept.keep([WAVEFORMS, CLIPS])


def _read(ids: Sequence[str]) -> list[bytes]:
    contents = []
    for clip in ids:
        with open(f"{RAW}/{clip}", "rb", buffering=0) as file:
            contents.append(file.readall())
    return contents


def _clip(clip: str, recorded: Recorded | Clip, naming: Naming) -> Clip:
    return Clip(
        clip=clip,
        label=clip.partition("/")[0],
        speaker=clips.speaker(clip, naming),
        sample_rate=recorded.sample_rate,
        samples=recorded.samples,
        md5=recorded.md5,
    )


def _check(rejects: list[tuple[str, str]], allowed: int, good: int) -> None:
    if len(rejects) > allowed or not good:
        named = "\n".join(f"  {clip}: {reason}" for clip, reason in rejects)
        raise PipelineError(
            f"{len(rejects)} of {len(rejects) + good} clips cannot be decoded, {allowed} may be (params.yaml:"
            f" audio.max_rejects):\n{named}\nMend or remove them, or raise audio.max_rejects"
        )


if __name__ == "__main__":
    run(main)
