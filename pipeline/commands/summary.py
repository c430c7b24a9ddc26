"""`python -m pipeline summary`: the scores of the last run, and where its results are."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from pipeline.commands import parser, predict
from pipeline.corpus.members import SILENCE, UNKNOWN
from pipeline.learning.noise import SNRS
from pipeline.params import load
from pipeline.records import read_json
from pipeline.report import results
from pipeline.report.results import Exported, Metrics
from pipeline.serving.predictor import MODEL

METRICS = Path("results/metrics.json")
PREDICTIONS = Path("results/predictions.csv")
EXPORTED = Path("results/export.json")
RAW = Path("data/raw")
FILES = {
    Path("results/report.html"): "the whole run as one page: open it in a browser",
    METRICS: "these scores (dvc metrics show)",
    Path("results/labels.csv"): "precision and recall of each label (dvc plots show)",
    PREDICTIONS: "the prediction for each test clip",
    Path("models/model.keras"): "the trained model",
}


def main(arguments: Sequence[str]) -> None:
    """Print the scores on the test clips. Raises PipelineError if there are none."""
    parser("summary").parse_args(arguments)
    params = load()
    scores = read_json(METRICS, Metrics)
    low, high = scores.low_95, scores.high_95
    print(
        f"""
{params["dataset"]}: {params["feature"]} → {params["model"]}, {scores.clips} test clips
  accuracy  {scores.accuracy:.3f}   95% confidence interval {low:.3f} to {high:.3f}
  macro F1  {scores.macro_f1:.3f}
  loss      {scores.loss:.3f} nats
{_more(scores)}"""
    )
    for path, content in FILES.items():
        if path.exists():
            print(f"{path!s:<27}{content}")
    exported = read_json(EXPORTED, Exported).root if EXPORTED.exists() else {}
    if "reason" in exported:
        print(f"nothing was exported: {exported['reason']}")
    elif exported and MODEL.parent.exists():
        print(f"{f'{MODEL.parent}/':<27}the model in formats that run by themselves")
        _classify()


def _more(scores: Metrics) -> str:
    """Return lines for the scores that only some tasks have."""
    lines = ""
    if scores.noisy is not None:
        snrs = ", ".join(map(str, SNRS))
        lines += f"  in noise  {scores.noisy:.3f}   mean accuracy at {snrs} dB\n"
    if scores.words_accuracy is not None:
        counts = (
            (scores.unknown_as_word, "unknown clips"),
            (scores.silence_as_word, "silences"),
        )
        others = [f"{count} {name}" for count, name in counts if count is not None]
        lines += f"  words     {scores.words_accuracy:.3f}   taken for a word: {', '.join(others)}\n"
    return lines


def _classify() -> None:
    """Classify the first test clip of a word, as a user might, if its file and the exported model exist."""
    if not (MODEL.exists() and PREDICTIONS.exists()):
        return
    words = (row.clip for row in results.PREDICTIONS.read(PREDICTIONS) if row.truth not in (UNKNOWN, SILENCE))
    clip = next((path for path in (RAW / word for word in words) if path.exists()), None)
    if clip is None:
        return
    print(f"\n$ python -m pipeline predict {shlex.quote(str(clip))}", flush=True)
    predict.main([str(clip)])
