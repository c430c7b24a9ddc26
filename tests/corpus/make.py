"""Makes rows of clips.csv."""

import hashlib

from pipeline.corpus.clips import Clip


def make_clip(
    clip: str, label: str | None = None, speaker: str | None = None, md5: str | None = None, given: str = ""
) -> Clip:
    """Return a row of clips.csv. By default its label is its folder, and speaker and md5 are its own.

    Clips with the same `md5`, any text, are copies.
    """
    return Clip(
        clip,
        clip.partition("/")[0] if label is None else label,
        clip if speaker is None else speaker,
        given,
        sample_rate=16000,
        samples=16000,
        md5=hashlib.md5((md5 or clip).encode()).hexdigest(),
    )
