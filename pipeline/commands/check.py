"""`python -m pipeline check`: find every mistake in params.yaml at once."""

from collections.abc import Sequence
from typing import Any

from pipeline.commands import parser
from pipeline.corpus.archive import Archive, Unpacking
from pipeline.corpus.audio import Audio
from pipeline.corpus.clips import Naming
from pipeline.corpus.demo import Demo
from pipeline.corpus.splits import Split
from pipeline.errors import PipelineError
from pipeline.features import Feature
from pipeline.learning import teacher
from pipeline.learning.settings import Train
from pipeline.models import Model
from pipeline.params import FILE, check, check_plugin, load, project, unknown
from pipeline.report.examples import Examples
from pipeline.report.page import Report
from pipeline.serving.export import Export

SECTIONS: dict[str, Any] = {
    "extract": Unpacking,
    "clips": Naming,
    "audio": Audio,
    "split": Split,
    "train": Train,
    "export": Export,
    "examples": Examples,
    "report": Report,
}
# A choice is the name of a section in a group.
CHOICES = {"dataset": "datasets", "feature": "features", "model": "models"}
PLUGINS: dict[str, Any] = {"features": Feature, "models": Model}


def main(arguments: Sequence[str]) -> None:
    """Check the whole file. Raises PipelineError with one line per problem."""
    parser("check").parse_args(arguments)
    params = load()
    problems = problems_in(params)
    if problems:
        raise PipelineError("\n".join(problems))
    print(f"{FILE}: no mistakes; dataset {params['dataset']}, {params['feature']} → {params['model']}")


def problems_in(params: dict[str, Any]) -> list[str]:
    """Return one line for each problem in `params`, the content of params.yaml."""
    known = [*CHOICES, *CHOICES.values(), *SECTIONS]
    problems = [f"{FILE}: {unknown(key, key, known)}" for key in params if key not in known]
    for key, kind in SECTIONS.items():
        problems += check(params, key, kind)[1]
    for choice, group in CHOICES.items():
        problems += _problems_in_group(params, choice, group)
    return problems or _problems_between_sections(params)


def _problems_in_group(params: dict[str, Any], choice: str, group: str) -> list[str]:
    sections, problems = check(params, group, dict[str, Any])
    if sections is None:
        return problems
    chosen, problems = check(params, choice, str)
    if chosen is not None and chosen not in sections:
        problems.append(f"{FILE}: {choice} must be one of {', '.join(sections)}, is {chosen!r}")
    for name in sections:
        key = f"{group}.{name}"
        if "." in name:
            problems.append(f"{FILE}: {key} must not have a dot in its name: DVC reads it as a path")
        elif group in PLUGINS:
            problems += check_plugin(params, key, PLUGINS[group])[1]
        else:
            problems += check(params, key, Demo if name == "demo" else Archive)[1]
    return problems


def _problems_between_sections(params: dict[str, Any]) -> list[str]:
    problems = []
    audio = Audio(**params["audio"])
    for name, section in params["features"].items():
        feature = Feature.restore(section)
        problems += [
            f"{FILE}: features.{name} {problem}"
            for problem in feature.problems(audio.sample_rate, audio.samples)
        ]
    settings: dict[str, Train | None] = {}
    for name in params["models"]:
        settings[name], mistakes = check(params, "train", Train, overrides=f"models.{name}.train")
        problems += mistakes
    name, feature = params["model"], params["features"][params["feature"]]
    model = check_plugin(params, f"models.{name}", Model)[0]
    if model is not None:
        problems += [
            f"{FILE}: models.{name} {problem}" for problem in model.problems(feature, audio.sample_rate)
        ]
    train = settings[name]
    used = train and train.teacher_feature
    if used is not None and used not in params["features"]:
        known = ", ".join(params["features"])
        problems.append(f"{FILE}: train.teacher_feature must be null or one of {known}, is {used!r}")
    if train is not None:
        problems += _problems_of_teacher(train)
    dataset = params["dataset"]
    if dataset != "demo" and params["datasets"][dataset]["url"] is None:
        problems.append(
            f"{FILE}: datasets.{dataset}.url must be a URL or a path, is null; dataset is {dataset}"
        )
    return problems


def _problems_of_teacher(train: Train) -> list[str]:
    try:
        teacher.find(train)
    except PipelineError as error:
        # A teammate without the file can still download what it taught.
        missing = train.teacher is not None and not (project() / train.teacher).exists()
        return [] if missing and train.teacher_md5 is not None else [str(error)]
    return []
