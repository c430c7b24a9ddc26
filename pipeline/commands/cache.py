"""`python -m pipeline.commands.cache`: what DVC leaves undone where a cache is shared."""

import argparse
import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_data.hashfile.db import get_index
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from ruamel.yaml import YAML

from pipeline.errors import PipelineError, run
from pipeline.progress import Progress

JOBS = 16  # transfers at once, as they wait for the network
BLOCK = 1 << 20
LOCK = Path("dvc.lock")


def main() -> None:
    """Send the metrics of all runs, check that dvc.lock fits together, or verify a cache or a remote."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.commands.cache", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    sending = commands.add_parser("metrics", help="send the metrics of every run, which dvc push leaves out")
    commands.add_parser("lock", help="name stages of dvc.lock that ran on other inputs than others wrote")
    verifying = commands.add_parser("verify", help="read every object, and name those that are not whole")
    for command in (sending, verifying):
        command.add_argument("-r", "--remote", help="a remote's name")
    verifying.add_argument("--remove", action="store_true", help="delete what is not whole, to get it back")
    args = parser.parse_args()
    try:
        with Repo() as repo:
            match args.command:
                case "metrics":
                    print(f"{send_metrics(repo, args.remote)} files of metrics pushed")
                case "lock":
                    _check_lock()
                case "verify":
                    _verify(repo, args.remote, remove=args.remove)
    except DvcException as error:
        raise PipelineError(str(error)) from None


def send_metrics(repo: Repo, remote: str | None = None) -> int:
    """Send the metrics of all runs in the run-cache that are in the cache; return how many files were new.

    `dvc push` leaves out an output with `cache: false`, as git has it. But git has that of the current
    commit, and a run is restored from the run-cache only where all of its outputs are.
    """
    in_git = {out.def_path for stage in repo.index.stages for out in stage.outs if not out.use_cache}
    runs = [YAML(typ="safe").load(run) for run in Path(repo.stage_cache.cache_dir).glob("??/*/*")]
    outs = [out for run in runs for out in run["outs"] if out["path"] in in_git]
    metrics = {HashInfo("md5", out["md5"]) for out in outs}
    here = set(repo.cache.local.oids_exist([each.value for each in metrics]))
    result = repo.cloud.push([each for each in metrics if each.value in here], jobs=JOBS, remote=remote)
    if result.failed:
        raise PipelineError(f"{len(result.failed)} files of metrics could not be sent: run it again")
    return len(result.transferred)


def _check_lock() -> None:
    mistakes = list(_odd_inputs(YAML(typ="safe").load(LOCK)["stages"]))
    if mistakes:
        raise PipelineError("\n".join(mistakes) + "\nRun make run, commit dvc.lock, and make push")


def _odd_inputs(stages: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each input in dvc.lock that is not what a stage there wrote.

    Where data is not here, `dvc repro --allow-missing` compares paths that are alike alone, and so not a
    folder with the files in it that several stages wrote.
    """
    outs = {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}
    for name, stage in stages.items():
        for dep in stage.get("deps", []):
            path, written = dep["path"], outs.get(dep["path"])
            within = {
                Path(out).relative_to(path).parts: md5 for out, md5 in outs.items() if path in _parents(out)
            }
            if within:
                tree = Tree()
                for key, md5 in within.items():
                    tree.add(key, None, HashInfo("md5", md5))
                tree.digest()
                written = tree.hash_info.value
            if written not in (None, dep["md5"]):
                yield f"dvc.lock: {name} ran on another {path}, {dep['md5']}, than was written, {written}"


def _parents(path: str) -> set[str]:
    return {parent.as_posix() for parent in Path(path).parents}


def _verify(repo: Repo, remote: str | None, *, remove: bool) -> None:
    place = repo.cloud.get_remote_odb(remote, "verify") if remote else repo.cache.local
    name = f"remote {remote}" if remote else "cache"
    names = _outputs(repo)
    broken = list(_broken(place, name))
    if not broken:
        return
    if remove:
        # Where a folder's list is in a remote, DVC takes all of its files to be there, and sends none.
        for oid in {*broken, *(_lists(place, broken) if remote else ())}:
            for path in names.get(oid, []):
                if not remote and _same(Path(path), Path(place.oid_to_path(oid))):
                    Path(path).unlink()
            place.fs.remove(place.oid_to_path(oid))
        get_index(place).clear()
    lines = [f"{place.oid_to_path(oid)}: {', '.join(names.get(oid, ['of another state']))}" for oid in broken]
    again = (
        "run make push EXPERIMENTS=origin where they are whole"
        if remote
        else "run dvc repro --pull, or dvc repro"
    )
    raise PipelineError(
        f"{len(broken)} objects in the {name} do not have the content that their names tell:\n"
        + "\n".join(f"  {line}" for line in lines)
        + f"\n{f'They are deleted: {again}' if remove else 'Delete them with --remove, then ' + again}"
    )


def _lists(place: Any, oids: list[str]) -> Iterator[str]:
    """Yield the ids of the folders at `place` that have one of `oids` among their files."""
    for oid in place.all():
        if oid.endswith(".dir") and oid not in oids:
            files = json.loads(place.fs.cat_file(place.oid_to_path(oid)))
            if any(file["md5"] in oids for file in files):
                yield oid


def _broken(place: Any, name: str) -> Iterator[str]:
    """Read all objects at `place`, many at once; yield the ids of those whose md5 is another."""
    oids = list(place.all())
    with Progress(len(oids), "objects", f"verify {name}") as progress, ThreadPoolExecutor(JOBS) as pool:
        for oid, found in zip(oids, pool.map(partial(_md5, place), oids), strict=True):
            progress.update(1)
            if found != oid.removesuffix(".dir"):
                yield oid


def _md5(place: Any, oid: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with place.fs.open(place.oid_to_path(oid), "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _outputs(repo: Repo) -> dict[str, list[str]]:
    """The paths of the current state's outputs by the ids of their content, those within folders too."""
    found: dict[str, list[str]] = {}
    for stage in repo.index.stages:
        for out in stage.outs:
            found.setdefault(str(out.hash_info.value), []).append(out.fs_path)
            for key, _, info in (out.get_obj() or ()) if out.hash_info.isdir else ():
                found.setdefault(str(info.value), []).append(str(Path(out.fs_path, *key)))
    return {oid: [os.path.relpath(path) for path in paths] for oid, paths in found.items()}


def _same(path: Path, other: Path) -> bool:
    return path.exists() and path.samefile(other)


if __name__ == "__main__":
    run(main)
