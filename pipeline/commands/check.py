"""`python -m pipeline check`: find every mistake in params.yaml at once, and try the section `clips`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.commands import parser
from pipeline.corpus import clips, download, splits
from pipeline.corpus.archive import Contents, Unpacking, opened
from pipeline.corpus.audio import Audio
from pipeline.corpus.clips import Clip, Naming
from pipeline.corpus.demo import Demo
from pipeline.corpus.download import Archive, local_path
from pipeline.corpus.members import SILENCE
from pipeline.corpus.splits import Split
from pipeline.corpus.task import Task
from pipeline.errors import PipelineError, escaped
from pipeline.features import Feature
from pipeline.files import delete_abandoned
from pipeline.learning import noise, teacher
from pipeline.learning.settings import Train
from pipeline.models import Model
from pipeline.params import (
    FILE,
    Name,
    check,
    check_plugin,
    listed,
    load,
    name_problem,
    path_of,
    project,
    shown,
    unknown,
)
from pipeline.report.examples import Examples
from pipeline.report.page import Report
from pipeline.serving.export import Export

SECTIONS: dict[str, Any] = {
    "extract": Unpacking,
    "clips": Naming,
    "audio": Audio,
    "task": Task,
    "split": Split,
    "train": Train,
    "export": Export,
    "examples": Examples,
    "report": Report,
}
# A choice is the name of a section in a group.
CHOICES = {"dataset": "datasets", "feature": "features", "model": "models"}
# So many are printed.
MAX_PROBLEMS = 100
PLUGINS: dict[str, Any] = {"features": Feature, "models": Model}


def main(arguments: Sequence[str]) -> None:
    """Check the whole file. Raises PipelineError with one line per problem."""
    options = parser("check")
    options.add_argument(
        "--clips",
        action="store_true",
        help="list the labels, speakers and splits of the clips, from the names of the files in the archive",
    )
    show_clips = options.parse_args(arguments).clips
    delete_abandoned()  # if DVC restores every output, no stage does
    for path in download.unfinished():
        size = path.stat().st_size
        print(
            f"{path} has {size:,} bytes of a download that broke off: dvc repro goes on from there if you"
            f" choose its data set; if you no longer want it, run rm {path}*"
        )
    params = load()
    problems = problems_in(params)
    if problems:
        more = [f"and {len(problems) - MAX_PROBLEMS:,} more"] if len(problems) > MAX_PROBLEMS else []
        raise PipelineError("\n".join([*problems[:MAX_PROBLEMS], *more]))
    if show_clips:
        print_clips(params)
        return
    print(f"{FILE}: no mistakes; dataset {params['dataset']}, {params['feature']} → {params['model']}")


def print_clips(params: dict[str, Any]) -> None:
    """Print how many clips and speakers each label of the chosen archive has, and how they would be split.

    Only the archive's list of files is read, and the table and the lists in it.

    Raises:
        PipelineError: the archive is not here yet, or as `pipeline.corpus.archive.opened`,
            `pipeline.corpus.clips.origins` and `pipeline.corpus.splits.split`.
    """
    name, naming = params["dataset"], Naming(**params["clips"])
    url = params["datasets"][name].get("url")
    local = local_path(url) if url is not None else None
    path = local if local is not None and local.exists() else Path("data/archive", name)
    if not path.exists():
        advice = f"correct {FILE}: datasets.{name}.url" if local is not None else "run dvc repro download"
        raise PipelineError(f"{local or path} is missing: {advice}")
    lines: list[str] = []
    try:
        with opened(path, Unpacking(**params["extract"])) as contents:
            origins = clips.origins(sorted(contents.clips), naming, contents.read_table, contents.left_out)
            lines += [f"{path}: {len(origins.clips):,} clips", *_table_of_labels(origins, naming)]
            lines += filter(None, [contents.left_out_text()])
            lines += _split_in_archive(params, naming, origins, contents)
    finally:
        if lines:
            print(escaped("\n".join(lines)))


def _table_of_labels(origins: clips.Origins, naming: Naming) -> list[str]:
    labels = Counter(origin.label for origin in origins.clips.values())
    others = (*naming.recordings, SILENCE)
    known = {
        (origin.label, origin.speaker)
        for clip, origin in origins.clips.items()
        if origin.label not in others and origin.speaker != clip
    }
    speakers = Counter(label for label, _ in known)
    width = max(len("label"), *map(len, labels))
    lines = [f"{'label':<{width}}   clips  speakers  such as"]
    for label in sorted(labels):
        example = next(clip for clip, origin in origins.clips.items() if origin.label == label)
        pieces = " (cut into pieces)" if label in naming.recordings else ""
        lines.append(f"{label:<{width}}{labels[label]:>8,}{speakers[label]:>10,}  {example}{pieces}")
    everyone = sorted({speaker for _, speaker in known})
    rule = naming.table.speaker or naming.speaker
    reason = f"by '{rule}'" if rule else "because clips.speaker is null"
    examples = f", such as {', '.join(everyone[: clips.SHOWN])}" if everyone else ""
    lines.append(f"{len(everyone):,} speakers {reason}{examples}")
    given = Counter(origin.given_split for origin in origins.clips.values())
    if set(given) != {""}:
        counts = (f"{name or 'none'} {count:,}" for name, count in sorted(given.items()))
        lines.append(f"given splits: {', '.join(counts)}")
    return [*lines, *clips.differences(origins, naming)]


def _split_in_archive(
    params: dict[str, Any], naming: Naming, origins: clips.Origins, contents: Contents
) -> list[str]:
    """Return the table of the split that the clips would have, and what is wrong with it.

    The length of noise recordings is not known. If there are any, the table is without them.

    Raises PipelineError as `pipeline.corpus.splits.split`.
    """
    rows = [Clip(clip, *origin, sample_rate=0, samples=0, md5=clip) for clip, origin in origins.clips.items()]
    task, settings = Task(**params["task"]), Split(**params["split"])
    lists, messages = splits.read_lists(rows, settings, contents.read_table)
    heading = "the split, if there are no exact copies of clips"
    if any(row.label in naming.recordings for row in rows):
        task, heading = task.model_copy(update={"silence": 0.0}), f"{heading}, and without noise"
    joined = splits.split(rows, settings, task, naming.recordings, lists)
    spoken = [pair for pair in zip(rows, joined, strict=True) if not pair[1].noise]
    table = splits.format_table([row for row, _ in spoken], [member for _, member in spoken])
    return [*messages, f"{heading}:", table, *splits.warnings(rows, joined, settings, task)]


def problems_in(params: dict[str, Any]) -> list[str]:
    """Return one line for each problem in `params`, the content of params.yaml."""
    known = [*CHOICES, *CHOICES.values(), *SECTIONS]
    problems = [f"{FILE}: {unknown(path_of('', key), key, known)}" for key in params if key not in known]
    for key, kind in SECTIONS.items():
        problems += check(params, key, kind)[1]
    for choice, group in CHOICES.items():
        problems += _problems_in_group(params, choice, group)
    problems += _problems_in_overrides(params)
    return problems or _problems_between_sections(params)


def _problems_in_group(params: dict[str, Any], choice: str, group: str) -> list[str]:
    sections, problems = check(params, group, dict[Any, Any])
    if sections is None:
        return problems
    chosen, problems = check(params, choice, Name)
    if chosen is not None and chosen not in sections:
        problems.append(f"{FILE}: {choice} must be one of {listed(sections)}, is {shown(chosen)}")
    for name in sections:
        key = f"{group}.{name}"
        if wrong := name_problem(name):
            problems.append(f"{FILE}: {path_of(group, name)} {wrong}")
        elif group in PLUGINS:
            problems += check_plugin(params, key, PLUGINS[group])[1]
        else:
            problems += check(params, key, Demo if name == "demo" else Archive)[1]
    return problems


def _problems_in_overrides(params: dict[str, Any]) -> list[str]:
    """Return the problems of the models' own settings for training, without those of the section `train`."""
    models = params.get("models")
    own = check(params, "train", Train)[1]
    return [
        problem
        for name in (models if isinstance(models, dict) else {})
        for problem in check(params, "train", Train, overrides=f"models.{name}.train")[1]
        if problem not in own
    ]


def _problems_between_sections(params: dict[str, Any]) -> list[str]:
    problems = []
    audio = Audio(**params["audio"])
    for name, section in params["features"].items():
        feature = Feature.restore(section)
        problems += [
            f"{FILE}: features.{name} {problem}"
            for problem in feature.problems(audio.sample_rate, audio.samples)
        ]
    name, feature = params["model"], params["features"][params["feature"]]
    model = check_plugin(params, f"models.{name}", Model)[0]
    if model is not None:
        problems += [
            f"{FILE}: models.{name} {problem}" for problem in model.problems(feature, audio.sample_rate)
        ]
    train = check(params, "train", Train, overrides=f"models.{name}.train")[0]
    used = train and train.teacher_feature
    if used is not None and used not in params["features"]:
        known = listed(params["features"])
        problems.append(f"{FILE}: train.teacher_feature must be null or one of {known}, is {shown(used)}")
    if train is not None:
        problems += _problems_of_files(train)
        noisy = train.augment.noise.changes_waveforms
        if noisy and type(Feature.restore(feature)).graph is Feature.graph:
            problems.append(
                f"{FILE}: train.augment.noise needs a feature with a `graph`, but {params['feature']} has"
                " none: choose another feature, or set probability and gain to 0"
            )
    dataset = params["dataset"]
    if dataset != "demo" and params["datasets"][dataset]["url"] is None:
        problems.append(
            f"{FILE}: datasets.{dataset}.url must be a URL or a path, is null; dataset is {dataset}"
        )
    return problems


def _problems_of_files(train: Train) -> list[str]:
    """Return the problems of the teacher and of the folder of noise."""
    settings = train.augment.noise
    problems = []
    for find, path, md5 in (
        (lambda: teacher.find(train), train.teacher, train.teacher_md5),
        (
            lambda: noise.find(settings) if settings.changes_waveforms else [],
            settings.folder,
            settings.folder_md5,
        ),
    ):
        try:
            find()
        except OSError as error:
            problems.append(f"{FILE}: {shown(path)} cannot be read: {error.strerror}: correct it")
        except PipelineError as error:
            # A teammate without the file can still download what was trained with it.
            missing = path is not None and not (project() / path).exists()
            if not missing or md5 is None:
                problems.append(str(error))
    return problems
