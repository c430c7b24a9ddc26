"""Fetching against computing, of real clips: bytes, seconds over SSH, and the bandwidth at which it turns.

A clone that has computed everything publishes it on an OpenSSH server of this machine (tests/servers.sh).
Then fresh clones compute what training on MFCC needs, fetch it, compute all, and fetch all, in turn. In the
end what training needs is fetched at half and at twice the bandwidth at which both should take the same.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import arguments, machine

from tests import project, servers
from tests.project import Project

NEEDED = ("split", "featurize@mfcc")
FEATURES = ("split", "featurize@stft", "featurize@logmel", "featurize@mfcc")


def main() -> None:
    """Print bytes and seconds of each way, and the bandwidth."""
    args = arguments(str(__doc__), rounds=3)
    print(machine())
    project.SMALL = {
        "dataset": "own",
        "datasets.own.url": str(args.archive.absolute()),
        "feature": "mfcc",
        "model": "dscnn",
        "models.dscnn.train.epochs": 1,
    }
    with tempfile.TemporaryDirectory() as name, servers.ssh(Path(name) / "ssh") as remote:
        assert remote.relay
        relay, home = remote.relay, Path(name)
        a = Project(home / "a")
        lines = ["[core]", "remote = team", "['remote \"team\"']", f"url = {remote.url}"]
        config = "\n".join([*lines, *(f"{key} = {value}" for key, value in remote.secrets.items())])
        (a.path / ".dvc/config.local").write_text(config)
        a.run("dvc", "repro")
        a.commit()
        start = time.perf_counter()
        a.run("dvc", "push", "--run-cache")
        print(f"\npublishing all: {relay.sent:,} bytes sent, {time.perf_counter() - start:.1f} s")

        def timed(*command: str) -> tuple[float, int]:
            clone = Project(home / "clone", a.path)
            (clone.path / ".dvc/config.local").write_text(config)
            before, start = relay.received, time.perf_counter()
            clone.run(*command)
            found = time.perf_counter() - start, relay.received - before
            for folder in ("clone", "dvc"):
                shutil.rmtree(home / folder, ignore_errors=True)
            os.sync()  # what it wrote is not to be written during the next
            return found

        sides: dict[str, Callable[[], tuple[float, int]]] = {
            "compute what training on mfcc needs": lambda: timed("dvc", "repro", *NEEDED),
            "fetch it": lambda: timed("dvc", "pull", *NEEDED),
            "compute all up to the features": lambda: timed("dvc", "repro", *FEATURES),
            "fetch all": lambda: timed("dvc", "pull"),
        }
        found: dict[str, list[tuple[float, int]]] = {side: [] for side in sides}
        for _ in range(args.rounds):
            for side, run in sides.items():
                found[side].append(run())
        print("| side | median s | bytes received |\n|---|---|---|")
        medians = []
        for side, each in found.items():
            seconds, received = (statistics.median(values) for values in zip(*each, strict=True))
            medians.append((seconds, received))
            print(f"| {side} | {seconds:.1f} | {received:,.0f} |")
        rates = []
        for what, (computed, fetched) in {"it": medians[:2], "all": medians[2:]}.items():
            rates.append(fetched[1] / computed[0])
            print(f"fetching {what} takes as long as computing at {rates[-1] / 1e6:.1f} MB/s")
        for share in (0.5, 2):
            relay.rate = rates[0] * share
            seconds, _ = sides["fetch it"]()
            print(
                f"at {relay.rate / 1e6:.1f} MB/s: fetched in {seconds:.1f} s, computed in {medians[0][0]:.1f}"
            )


if __name__ == "__main__":
    main()
