"""data/raw → data/waveforms.h5, data/clips.csv, data/rejects.csv: read every audio file.

data/tables.zip and data/left_out.csv say more about the clips, and what else was in the archive.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from pipeline import params
from pipeline.corpus import clips, recordings, tables
from pipeline.corpus.audio import Audio, Recorded, Sound, decode
from pipeline.corpus.clips import Clip, Naming, Origin
from pipeline.errors import PipelineError, run
from pipeline.files import read_csv, write_csv
from pipeline.store.layout import Rows
from pipeline.store.previous import PreviousRun
from pipeline.store.writer import Contents, Verdict, Work, write

RAW = Path("data/raw")
TABLES = Path("data/tables.zip")
LEFT_OUT = Path("data/left_out.csv")
WAVEFORMS = Path("data/waveforms.h5")
CLIPS = Path("data/clips.csv")
REJECTS = Path("data/rejects.csv")


def main() -> None:
    """Decode all clips. Raises PipelineError if more than `audio.max_rejects` cannot be decoded."""
    previous_run = PreviousRun("decode")
    audio = params.read("audio", Audio)
    naming = params.read("clips", Naming)
    origins = _origins(naming)
    ids = sorted(
        clip
        for file, origin in origins.items()
        for clip in (
            recordings.pieces(RAW, file, audio.duration) if origin.label in naming.recordings else [file]
        )
    )
    waveform = audio.model_dump(include=set(Sound.model_fields))
    previous = previous_run.store(WAVEFORMS.name, tables=[CLIPS.name])
    verdicts = write(
        WAVEFORMS,
        Contents(ids, row_shape=(audio.samples,), dtype="float32", params={"audio": waveform}),
        Work("decode", ids, partial(_read, duration=audio.duration), partial(_decode, **waveform)),
        previous=previous,
        check=partial(_check, ids, audio.max_rejects),
    )
    previous_clips = clips.read(previous.path.with_name(CLIPS.name)) if previous else []
    good, rejects = [], []
    for clip, verdict in zip(ids, verdicts, strict=True):
        if verdict.rejected is not None:
            rejects.append((clip, verdict.rejected))
        elif verdict.reused is not None:
            good.append(_clip(clip, origins, previous_clips[verdict.reused]))
        elif verdict.note is not None:
            good.append(_clip(clip, origins, verdict.note))
    clips.write(CLIPS, good)
    write_csv(REJECTS, ["clip", "reason"], rejects)
    previous_run.save([WAVEFORMS, CLIPS])


def _origins(naming: Naming) -> dict[str, Origin]:
    """Return what is known of each audio file, and print what the table leaves out."""
    ids = clips.find(RAW)
    left_out = [row["path"] for row in read_csv(LEFT_OUT)]
    origins = clips.origins(ids, naming, partial(tables.read, TABLES), left_out)
    for line in clips.differences(origins, naming):
        print(line)
    return origins.clips


def _read(ids: Sequence[str], *, duration: float) -> list[bytes]:
    return [recordings.content(RAW, clip, duration) for clip in ids]


def _decode(files: Sequence[bytes], **waveform: object) -> tuple[Rows, list[Verdict[Recorded]]]:
    waveforms, results = decode(files, **waveform)  # type: ignore[arg-type]  # checked as `Audio`
    return waveforms, [Verdict(note=result.recorded, rejected=result.problem) for result in results]


def _clip(clip: str, origins: Mapping[str, Origin], recorded: Recorded | Clip) -> Clip:
    return Clip(
        clip,
        *origins[recordings.file(clip)],
        sample_rate=recorded.sample_rate,
        samples=recorded.samples,
        md5=recorded.md5,
    )


def _check(ids: list[str], max_rejects: int, verdicts: list[Verdict[Recorded]]) -> None:
    rejects = {
        clip: verdict.rejected for clip, verdict in zip(ids, verdicts, strict=True) if verdict.rejected
    }
    if len(rejects) > max_rejects or len(rejects) == len(ids):
        reasons = "\n".join(f"  {clip}: {reason}" for clip, reason in rejects.items())
        raise PipelineError(
            f"{len(rejects)} of {len(ids)} clips cannot be decoded, {max_rejects} may be (params.yaml:"
            f" audio.max_rejects):\n{reasons}\nRepair or remove these files, or raise audio.max_rejects"
        )


if __name__ == "__main__":
    run(main)
