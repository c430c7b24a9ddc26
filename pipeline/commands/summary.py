"""`python -m pipeline.commands.summary`: what came of the last run, and where to look."""

import json
from pathlib import Path

from pipeline.errors import PipelineError, run
from pipeline.params import load

METRICS = Path("results/metrics.json")


def main() -> None:
    """Print the test metrics and the places of the results."""
    params = load()
    if not METRICS.exists():
        raise PipelineError(f"{METRICS} is missing: run dvc repro")
    scores = json.loads(METRICS.read_text(encoding="utf-8"))
    print(
        f"""
{params["dataset"]}: {params["feature"]} → {params["model"]}, {scores["clips"]} test clips
  accuracy  {scores["accuracy"]:.3f}
  macro F1  {scores["macro_f1"]:.3f}
  loss      {scores["loss"]:.3f} nats

results/report.html        all of it, to look at and to listen to
{METRICS}       the scores, by label too (dvc metrics show)
results/predictions.csv    every test clip (dvc plots show: confusion matrix, training curves)
models/model.keras         the trained model"""
    )


if __name__ == "__main__":
    run(main)
