"""The files in results/: the columns of each table, and what each JSON file contains.

The stages that write them use these types, and whoever reads them gets checked values.
"""

from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, RootModel, model_validator

from pipeline.records import Count, Name, Number, Positive, Record, Share, TableFile

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# Part of the name of a file.
FeatureName = Annotated[str, Field(pattern=r"^\w+$")]


class Prediction(NamedTuple):
    """One row of predictions.csv: a test clip."""

    clip: Name
    truth: Name
    prediction: Name
    probability: Share  # of the prediction


class LabelScore(NamedTuple):
    """One row of labels.csv: a label's scores."""

    label: Name
    precision: Share
    recall: Share
    f1: Share
    clips: Count  # with this label


class Point(NamedTuple):
    """One row of precision_recall.csv: a point of a label's curve."""

    label: Name
    recall: Share
    precision: Share


class InNoise(NamedTuple):
    """One row of noise.csv."""

    snr: int  # dB
    accuracy: Share


class Layer(NamedTuple):
    """One row of layers.csv: a step of the model."""

    layer: Name
    kind: Name
    output: str  # the shape of one clip's output
    parameters: Count


class Loss(NamedTuple):
    """One row of DVCLive's table of the loss."""

    step: Count
    loss: Number


class Accuracy(NamedTuple):
    """One row of DVCLive's table of the accuracy."""

    step: Count
    accuracy: Share


PREDICTIONS = TableFile(Prediction, key=("clip",))
LABELS = TableFile(LabelScore, key=("label",))
PRECISION_RECALL = TableFile(Point)
NOISE = TableFile(InNoise, key=("snr",), may_be_empty=True)
LAYERS = TableFile(Layer, key=("layer",))
CURVES: dict[str, TableFile[Any]] = {
    "loss": TableFile(Loss, key=("step",), delimiter="\t"),
    "accuracy": TableFile(Accuracy, key=("step",), delimiter="\t"),
}


class Metrics(Record):
    """metrics.json: the scores on the test clips. Those that are None are for other tasks."""

    accuracy: Share
    macro_f1: Share
    loss: NotNegative
    clips: Positive
    words_accuracy: Share | None = None
    unknown_as_word: Count | None = None
    silence_as_word: Count | None = None
    noisy: Share | None = None
    low_95: Share
    high_95: Share
    epoch: Positive


class Scores(Record):
    """The loss and the accuracy on a split."""

    loss: float
    accuracy: Share


class Best(Record):
    """The epoch whose weights the model has."""

    epoch: Positive
    val: Scores


class Log(Record):
    """train/metrics.json, by DVCLive."""

    best: Best


class Format(Record):
    """An exported format in export.json: its scores, or the reason why there are none."""

    reason: str | None = None
    accuracy: Share | None = None
    max_difference: NotNegative | None = None
    bytes: Count | None = None
    warning: str | None = None

    @model_validator(mode="after")
    def _has_scores_or_a_reason(self) -> Self:
        if self.reason is None and None in (self.accuracy, self.max_difference, self.bytes):
            raise ValueError("must have accuracy, max_difference and bytes, or a reason")
        return self


class Exported(RootModel[dict[str, Format | str]]):
    """export.json: each format by its name, or only a `reason` why nothing is exported."""

    @model_validator(mode="after")
    def _only_the_reason_is_text(self) -> Self:
        for name, value in self.root.items():
            if isinstance(value, str) != (name == "reason"):
                raise ValueError(f"must have formats, or only a reason, has {name} {value!r}")
        return self


class Example(Record):
    """A clip in examples/index.json."""

    clip: Name
    label: Name
    features: list[FeatureName]
    audible: list[FeatureName]


class Index(Record):
    """examples/index.json."""

    clips: Annotated[list[Example], Field(min_length=1)]
    features: dict[str, dict[str, Any]]


def curve(split: str, metric: str) -> str:
    """Return the path in results/ of DVCLive's table of a metric."""
    return f"train/plots/metrics/{split}/{metric}.tsv"
