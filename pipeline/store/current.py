"""Compare a store with params.yaml: does it contain what the pipeline means now?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.params import FILE, load, read
from pipeline.store.layout import Store, describe
from pipeline.store.reader import verify

# The keys of `audio` on which waveforms depend.
WAVEFORM = ("sample_rate", "duration", "padding")


def differences(store: Store, content: dict[str, Any], feature: str | None) -> list[str]:
    """Return one message for each way in which `store` differs from what params.yaml asks for.

    Args:
        store: the store.
        content: the content of params.yaml.
        feature: the name of the feature that the store must contain, or None for waveforms.
    """
    if store.feature != feature:
        expected = feature or "waveforms"
        return [
            f"{store.path} must contain {expected}, contains {store.feature or 'waveforms'}: run dvc repro"
        ]
    sections = {"audio": store.params.get("audio", {})}
    if feature:
        sections[f"features.{feature}"] = store.params["feature"].get("params", {})
    messages = []
    for section, stored in sections.items():
        current: Any = content
        for name in section.split("."):
            current = current.get(name) if isinstance(current, dict) else None
        if not stored or not isinstance(current, dict):
            messages.append(f"{store.path} and {FILE} must both have {section}: run dvc repro")
            continue
        # A feature depends on every key of its section.
        needed = WAVEFORM if section == "audio" else current
        for key in {**stored, **{key: value for key, value in current.items() if key in needed}}:
            before, after = stored.get(key, "none"), current.get(key, "none")
            if before != after:
                messages.append(
                    f"{store.path} was made with {section}.{key} {before}, {FILE} has {after}: run dvc repro"
                )
    return messages


def open_waveforms(path: Path, feature: Store, indices: Sequence[int]) -> Store:
    """Return the waveforms at `path`, from which the store `feature` must have been computed.

    Raises PipelineError as `open_current`, or if the feature was computed from other waveforms, or if one of
    the rows with these `indices` does not match its checksum.
    """
    waveforms = open_current(path, None, same_clips_as=feature)
    if (waveforms.checksums != feature.sources).any():
        raise PipelineError(f"{feature.path} was not computed from {path}: run dvc repro")
    verify(waveforms, indices)
    return waveforms


def open_current(path: Path, feature: str | None, *, same_clips_as: Store | None = None) -> Store:
    """Return the store at `path`, which must contain what params.yaml asks for.

    Args:
        path: the store.
        feature: the name of the feature that it must contain, or None for waveforms.
        same_clips_as: a store that must have the same clips.

    Raises:
        PipelineError: there is no store, or no such feature in params.yaml; or it is not a store, or differs
            from params.yaml as `differences` says, or has other clips.
    """
    if feature is not None and not path.exists():
        read(f"features.{feature}", dict[str, Any])  # if the name is misspelt, another run would not help
    store = describe(path)
    messages = differences(store, load(), feature)
    if same_clips_as and store.clips != same_clips_as.clips:
        messages.append(f"{path} and {same_clips_as.path} contain different clips: run dvc repro")
    if messages:
        raise PipelineError("\n".join(messages))
    return store
