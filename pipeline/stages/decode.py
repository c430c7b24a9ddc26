"""data/raw → data/waveforms.h5, data/clips.csv, data/rejects.csv: read every audio file.

data/tables.zip and data/left_out.csv say more about the clips, and what else was in the archive.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from pipeline import params
from pipeline.corpus import clips, paths, recordings, tables
from pipeline.corpus.audio import Audio, Recorded, Sound, decode
from pipeline.corpus.clips import Clip, Naming, Origin, Reject
from pipeline.corpus.headers import CUT_SHORT, Truncated
from pipeline.errors import PipelineError, escaped, run
from pipeline.store import capacity
from pipeline.store.layout import Rows
from pipeline.store.previous import PreviousRun
from pipeline.store.writer import Contents, Verdict, Work, write

RAW = Path("data/raw")
TABLES = Path("data/tables.zip")
LEFT_OUT = Path("data/left_out.csv")
WAVEFORMS = Path("data/waveforms.h5")
CLIPS = Path("data/clips.csv")
REJECTS = Path("data/rejects.csv")
# How many rejects a message lists.
LISTED = 20


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
            recordings.pieces(RAW, file, audio.duration, audio.truncated)
            if origin.label in naming.recordings
            else [file]
        )
    )
    waveform = audio.model_dump(include=set(Sound.model_fields))
    previous = previous_run.store(WAVEFORMS.name, tables=[CLIPS.name, REJECTS.name])
    previous_clips = clips.read(previous.path.with_name(CLIPS.name)) if previous else []
    previous_rejects = clips.REJECTS.read(previous.path.with_name(REJECTS.name)) if previous else []
    lacking = {reject.clip: reject.reason for reject in previous_rejects if reject.taken}
    if lacking and audio.truncated == "reject":
        previous = None  # it has rows of clips that are rejects now
    contents = Contents(ids, row_shape=(audio.samples,), dtype="float32", params={"audio": waveform})
    remedy = f"lower audio.duration or audio.sample_rate in {params.FILE}"
    capacity.require(WAVEFORMS, contents, 4 * audio.samples, "decode", remedy)
    verdicts = write(
        WAVEFORMS,
        contents,
        Work(
            "decode",
            ids,
            partial(_read, duration=audio.duration, truncated=audio.truncated),
            partial(_decode, truncated=audio.truncated, **waveform),
        ),
        previous=previous,
        check=partial(_check, ids, _words(ids, origins, naming), audio.max_rejects),
    )
    good, rejects = [], []
    for clip, verdict in zip(ids, verdicts, strict=True):
        reason = verdict.rejected
        if verdict.reused is not None:
            recorded = previous_clips[verdict.reused]
            good.append(_clip(clip, origins, recorded))
            reason = lacking.get(recorded.clip)
        elif verdict.note is not None:
            good.append(_clip(clip, origins, verdict.note))
            reason = verdict.note.lacking
        if reason is None and recordings.piece(clip) is not None:
            reason = recordings.lacking(RAW / recordings.file(clip))
        if reason is not None:
            rejects.append(Reject(clip, reason, taken=verdict.rejected is None))
    clips.write(CLIPS, good)
    clips.REJECTS.write(REJECTS, rejects)
    for is_taken, what in (
        (False, "cannot be decoded, and are left out by params.yaml: audio.max_rejects"),
        (True, "are cut short, and are taken by params.yaml: audio.truncated"),
    ):
        some = [reject.clip for reject in rejects if reject.taken == is_taken]
        if some:
            text = f"{len(some):,} of {len(ids):,} clips {what}: {REJECTS} has them, such as {some[0]}"
            print(escaped(text))
    previous_run.save([WAVEFORMS, CLIPS, REJECTS])


def _origins(naming: Naming) -> dict[str, Origin]:
    """Return what is known of each audio file, and print what the table leaves out."""
    ids = clips.find(RAW)
    left_out = [row.path for row in paths.LEFT_OUT.read(LEFT_OUT)]
    origins = clips.origins(ids, naming, partial(tables.read, TABLES), left_out)
    for line in clips.differences(origins, naming):
        print(escaped(line))
    return origins.clips


def _read(ids: Sequence[str], *, duration: float, truncated: Truncated) -> list[bytes]:
    return [recordings.content(RAW, clip, duration, truncated) for clip in ids]


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


def _check(
    ids: list[str], words: Mapping[str, str], max_rejects: int, verdicts: list[Verdict[Recorded]]
) -> None:
    rejects = {
        clip: verdict.rejected for clip, verdict in zip(ids, verdicts, strict=True) if verdict.rejected
    }
    if len(rejects) <= max_rejects and len(rejects) < len(ids):
        _check_labels(words, rejects)
        return
    listed = [f"\n  {clip}: {reason}" for clip, reason in rejects.items()][:LISTED]
    if len(rejects) > LISTED:
        listed.append(f"\n  and {len(rejects) - LISTED:,} more")
    allowed = max_rejects if len(rejects) < len(ids) else min(max_rejects, len(ids) - 1)
    remedies = ["Repair or remove these files"]
    if len(rejects) < len(ids):
        remedies.append("raise audio.max_rejects")
    if any(reason.startswith(CUT_SHORT) for reason in rejects.values()):
        remedies.append("set audio.truncated to accept, to take clips that are cut short")
    raise PipelineError(
        f"{len(rejects)} of {len(ids)} clips cannot be decoded, params.yaml: audio.max_rejects allows"
        f" {allowed}:{''.join(listed)}\n{', or '.join(remedies)}"
    )


def _words(ids: Sequence[str], origins: Mapping[str, Origin], naming: Naming) -> dict[str, str]:
    """Return the label of each clip that is not noise."""
    labels = {clip: origins[recordings.file(clip)].label for clip in ids}
    return {clip: label for clip, label in labels.items() if label not in naming.recordings}


def _check_labels(words: Mapping[str, str], rejects: Mapping[str, str]) -> None:
    """Raise PipelineError if all clips of a label are rejects."""
    left = {label for clip, label in words.items() if clip not in rejects}
    for clip, label in words.items():
        if label not in left:
            raise PipelineError(
                f"no clip of the label {label} can be decoded, such as {clip}: {rejects[clip]}: repair these"
                " files, or leave the label out with params.yaml: extract.exclude"
            )


if __name__ == "__main__":
    run(main)
