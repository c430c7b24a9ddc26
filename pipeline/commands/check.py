"""`python -m pipeline.commands.check`: report every mistake in params.yaml at once."""

from typing import Any

from pipeline.corpus.archive import Archive, Unpacking
from pipeline.corpus.audio import Audio
from pipeline.corpus.clips import Naming
from pipeline.corpus.demo import Demo
from pipeline.corpus.splits import Split
from pipeline.errors import PipelineError, run
from pipeline.features import Feature
from pipeline.learning.fit import Train
from pipeline.models import Model
from pipeline.params import FILE, check, load, unknown
from pipeline.report.examples import Examples
from pipeline.report.page import Report

SECTIONS: dict[str, Any] = {
    "extract": Unpacking,
    "clips": Naming,
    "audio": Audio,
    "split": Split,
    "train": Train,
    "examples": Examples,
    "report": Report,
}
# A choice is the name of one of the sections under another key.
CHOICES = {"dataset": "datasets", "feature": "features", "model": "models"}


def main() -> None:
    """Check the whole file; raise PipelineError with a line for each mistake."""
    params = load()
    mistakes = mistakes_in(params)
    if mistakes:
        raise PipelineError("\n".join(mistakes))
    print(f"{FILE}: no mistakes; dataset {params['dataset']}, {params['feature']} → {params['model']}")


def mistakes_in(params: dict[str, Any]) -> list[str]:
    """Return a line for each mistake in the content of params.yaml."""
    known = [*CHOICES, *CHOICES.values(), *SECTIONS]
    found = [f"{FILE}: {unknown(key, key, known)}" for key in params if key not in known]
    for key, kind in SECTIONS.items():
        found += check(params, key, kind)[1]
    for choice, group in CHOICES.items():
        found += _mistakes_in_choice(params, choice, group)
    return found or _mistakes_between_sections(params)


def _mistakes_in_choice(params: dict[str, Any], choice: str, group: str) -> list[str]:
    sections, found = check(params, group, dict[str, Any])
    if sections is None:
        return found
    chosen, found = check(params, choice, str)
    if chosen is not None and chosen not in sections:
        found.append(f"{FILE}: {choice} must be one of {', '.join(sections)}, is {chosen!r}")
    for name in sections:
        if "." in name:
            found.append(f"{FILE}: {group}.{name} must have no dot in its name: DVC reads it as a step down")
            continue
        try:
            found += check(params, f"{group}.{name}", _kind(group, name))[1]
        except PipelineError as error:
            found.append(str(error))
    return found


def _kind(group: str, name: str) -> Any:
    match group:
        case "features":
            return Feature.named(name)
        case "models":
            return Model.named(name)
        case _:
            return Demo if name == "demo" else Archive


def _mistakes_between_sections(params: dict[str, Any]) -> list[str]:
    found = []
    audio = Audio(**params["audio"])
    for name, section in params["features"].items():
        found += Feature.named(name)(**section).mistakes(audio.sample_rate, audio.samples)
    for name in params["models"]:
        found += check(params, "train", Train, over=f"models.{name}.train")[1]
    dataset = params["dataset"]
    if dataset != "demo" and params["datasets"][dataset]["url"] is None:
        found.append(f"{FILE}: datasets.{dataset}.url must be a URL or a path, is null; dataset is {dataset}")
    return found


if __name__ == "__main__":
    run(main)
