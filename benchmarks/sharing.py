"""Compare fetching with computing: seconds, bytes over SSH, and the bandwidth at which they break even.

One clone computes all features and publishes them on an OpenSSH server on this machine, which `make servers`
installs. Then fresh clones do four things in turn: they compute what training on MFCC needs, fetch it,
compute all features, and fetch these with everything that they depend on. At the end, a clone fetches what
training needs at half and at twice that bandwidth.

    python -m benchmarks.sharing --archive ZIP
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import arguments, machine, ratio
from tests import servers
from tests.project import Project

# Training needs the last one.
FEATURES = ("stft", "logmel", "mfcc")
# Fetching is also timed over lines this many times as fast as the one at which it takes as long as computing.
SHARES = ("0.5", "2")


def main() -> None:
    """Print seconds and bytes of each side, and the bandwidths."""
    args = arguments(str(__doc__), rounds=3, features=FEATURES, shares=SHARES)
    stages = ["split", *(f"featurize@{feature}" for feature in args.features)]
    needed = [stages[0], stages[-1]]
    training = f"what training on {args.features[-1]} needs"
    print(machine())
    with tempfile.TemporaryDirectory() as folder, servers.ssh(Path(folder) / "ssh") as remote:
        assert remote.relay
        relay, home = remote.relay, Path(folder)
        publisher = Project(home / "publisher")
        publisher.set_params({"dataset": "own", "datasets.own.url": str(args.archive.absolute())})
        lines = ["[core]", "remote = team", "['remote \"team\"']", f"url = {remote.url}"]
        config = "\n".join([*lines, *(f"{key} = {value}" for key, value in remote.secrets.items())])
        (publisher.path / ".dvc/config.local").write_text(config)
        publisher.run("dvc", "repro", *stages)
        publisher.commit()
        start = time.perf_counter()
        publisher.run("dvc", "push", "--run-cache", "--with-deps", *stages)
        print(f"publishing all features: {relay.sent:,} bytes sent, {time.perf_counter() - start:.1f} s")

        def timed(*command: str) -> tuple[float, int]:
            clone = Project(home / "clone", publisher.path)
            (clone.path / ".dvc/config.local").write_text(config)
            before, start = relay.received, time.perf_counter()
            clone.run(*command)
            measured = time.perf_counter() - start, relay.received - before
            for name in ("clone", "dvc"):
                shutil.rmtree(home / name, ignore_errors=True)
            os.sync()  # or the system would write this clone's files while the next one is timed
            return measured

        sides: dict[str, Callable[[], tuple[float, int]]] = {
            f"compute {training}": lambda: timed("dvc", "repro", *needed),
            f"fetch {training}": lambda: timed("dvc", "pull", *needed),
            "compute all features": lambda: timed("dvc", "repro", *stages),
            "fetch all features": lambda: timed("dvc", "pull", "--with-deps", *stages),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        received: dict[str, list[int]] = {name: [] for name in sides}
        for _ in range(args.rounds):
            for way, side in sides.items():
                seconds, count = side()
                times[way].append(seconds)
                received[way].append(count)
        print("| way | median s | bytes received |\n|---|---|---|")
        for way, counts in received.items():
            print(f"| {way} | {statistics.median(times[way]):.1f} | {statistics.median(counts):,.0f} |")
        ways = list(sides)
        bandwidths = []
        for compute, fetch in (ways[:2], ways[2:]):
            bandwidths.append(statistics.median(received[fetch]) / statistics.median(times[compute]))
            print(
                f"to {fetch} is {ratio(times[compute], times[fetch]):.2f} times as fast as to {compute};"
                f" both take the same time at {bandwidths[-1] / 1e6:.2f} MB/s"
            )
        computed = statistics.median(times[ways[0]])
        for share in args.shares:
            relay.rate = bandwidths[0] * float(share)
            fetched, _ = sides[ways[1]]()
            print(f"at {relay.rate / 1e6:.2f} MB/s: fetched in {fetched:.1f} s, computed in {computed:.1f} s")


if __name__ == "__main__":
    main()
