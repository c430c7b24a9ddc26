"""`python -m pipeline summary`: the scores of the last run, and where its results are."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from pipeline.commands import parser, predict
from pipeline.errors import PipelineError
from pipeline.files import read_csv
from pipeline.params import load
from pipeline.serving.predictor import MODEL

METRICS = Path("results/metrics.json")
PREDICTIONS = Path("results/predictions.csv")
EXPORTED = Path("results/export.json")
RAW = Path("data/raw")


def main(arguments: Sequence[str]) -> None:
    """Print the scores on the test clips. Raises PipelineError if there are none."""
    parser("summary").parse_args(arguments)
    params = load()
    if not METRICS.exists():
        raise PipelineError(f"{METRICS} is missing: run dvc repro")
    scores = json.loads(METRICS.read_text(encoding="utf-8"))
    low, high = scores["low_95"], scores["high_95"]
    print(
        f"""
{params["dataset"]}: {params["feature"]} → {params["model"]}, {scores["clips"]} test clips
  accuracy  {scores["accuracy"]:.3f}   95% confidence interval {low:.3f} to {high:.3f}
  macro F1  {scores["macro_f1"]:.3f}
  loss      {scores["loss"]:.3f} nats

results/report.html        the whole run as one page: open it in a browser
{METRICS}       these scores (dvc metrics show)
results/labels.csv         precision and recall of each label (dvc plots show)
results/predictions.csv    the prediction for each test clip
models/model.keras         the trained model"""
    )
    exported = json.loads(EXPORTED.read_text(encoding="utf-8")) if EXPORTED.exists() else {}
    if "reason" in exported:
        print(f"nothing was exported: {exported['reason']}")
    elif exported:
        print(f"{MODEL.parent}/             the model in formats that run by themselves")
        _classify()


def _classify() -> None:
    """Classify the first test clip, as the user might, if its file and the exported model are here."""
    if not (MODEL.exists() and PREDICTIONS.exists()):
        return
    clip = RAW / read_csv(PREDICTIONS)[0]["clip"]
    if not clip.exists():
        return
    print(f"\n$ python -m pipeline predict {shlex.quote(str(clip))}", flush=True)
    predict.main([str(clip)])
