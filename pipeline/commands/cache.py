"""`python -m pipeline cache`: what DVC does not do when a team shares a cache."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_data.hashfile.db import get_index
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from pydantic import Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.commands import parser
from pipeline.errors import PipelineError
from pipeline.progress import Progress
from pipeline.records import Record, checked, first_line, read_bytes

T = TypeVar("T")
JOBS = 16  # transfers at once, as they wait for the network
BLOCK = 1 << 20
LOCK = Path("dvc.lock")


def main(arguments: Sequence[str]) -> None:
    """Push the metrics of all runs, check that dvc.lock is consistent, or verify a cache or a remote."""
    options = parser("cache")
    commands = options.add_subparsers(dest="command", required=True)
    pushing = commands.add_parser("push-metrics", help="push the metrics of every run, which dvc push omits")
    commands.add_parser("check-lock", help="find inputs in dvc.lock that differ from another stage's output")
    verifying = commands.add_parser("verify", help="read every object, and name those that are damaged")
    for command in (pushing, verifying):
        command.add_argument("-r", "--remote", help="a remote's name")
    verifying.add_argument("--remove", action="store_true", help="delete damaged objects, to get them again")
    args = options.parse_args(arguments)
    try:
        with Repo() as repo:
            match args.command:
                case "push-metrics":
                    print(f"{push_metrics(repo, args.remote)} metrics files pushed")
                case "check-lock":
                    _check_lock()
                case "verify":
                    _verify(repo, args.remote, remove=args.remove)
    except DvcException as error:
        raise PipelineError(str(error)) from None


def push_metrics(repo: Repo, remote: str | None = None) -> int:
    """Push the metrics of all runs in the run-cache; return how many files the remote did not have.

    `dvc push` omits outputs with `cache: false`, because git has them. But git has only those of the current
    commit, and DVC restores a run only if all of its outputs exist.
    """
    in_git = {out.def_path for stage in repo.index.stages for out in stage.outs if not out.use_cache}
    files = sorted(Path(repo.stage_cache.cache_dir).glob("??/*/*"))
    runs = [_read_yaml(path, _Run, f"delete {path}, a run that DVC would restore") for path in files]
    outs = [out for run in runs for out in run.outs if out.path in in_git]
    metrics = {HashInfo("md5", out.md5) for out in outs}
    cached = set(repo.cache.local.oids_exist([info.value for info in metrics]))
    result = repo.cloud.push([info for info in metrics if info.value in cached], jobs=JOBS, remote=remote)
    if result.failed:
        raise PipelineError(f"{len(result.failed)} metrics files could not be pushed: run it again")
    return len(result.transferred)


def _check_lock() -> None:
    if not LOCK.exists():
        raise PipelineError(f"{LOCK} is missing: run dvc repro, and commit {LOCK}")
    problems = list(_odd_inputs(_read_yaml(LOCK, _Lock, f"run git checkout {LOCK}, or dvc repro").stages))
    if problems:
        raise PipelineError("\n".join(problems) + "\nRun make run, commit dvc.lock, and run make push")


class _File(Record):
    path: str
    md5: str


class _Run(Record):
    deps: list[_File] = Field(default_factory=list)
    outs: list[_File] = Field(default_factory=list)


class _Lock(Record):
    stages: dict[str, _Run]


def _read_yaml(path: Path, kind: type[T], remedy: str) -> T:
    """Return the content of a file of DVC as a `kind`. Raises PipelineError if it is damaged."""
    try:
        content = YAML(typ="safe").load(read_bytes(path).decode("utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not YAML: {first_line(error)}: {remedy}") from None
    return checked(content, kind, path, remedy=remedy)


def _odd_inputs(stages: dict[str, _Run]) -> Iterator[str]:
    """Yield one message for each input in dvc.lock that differs from the output that a stage there wrote.

    `dvc repro --allow-missing` does not find all of these. If data is missing, it compares only equal paths,
    and so not a folder with the outputs inside it.
    """
    outs = {out.path: out.md5 for stage in stages.values() for out in stage.outs}
    for name, stage in stages.items():
        for dep in stage.deps:
            path, written = dep.path, outs.get(dep.path)
            within = {
                Path(out).relative_to(path).parts: md5 for out, md5 in outs.items() if path in _parents(out)
            }
            if within:
                tree = Tree()
                for key, md5 in within.items():
                    tree.add(key, None, HashInfo("md5", md5))
                tree.digest()
                written = tree.hash_info.value
            if written not in (None, dep.md5):
                yield f"dvc.lock: {name} read {path} as {dep.md5}, but it was written as {written}"


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
        # If a remote has the list of a folder, DVC assumes that it has all of its files, and pushes none.
        for oid in {*broken, *(_lists(place, broken) if remote else ())}:
            for path in names.get(oid, []):
                if not remote and _same(Path(path), Path(place.oid_to_path(oid))):
                    Path(path).unlink()
            place.fs.remove(place.oid_to_path(oid))
        get_index(place).clear()
    lines = [
        f"{place.oid_to_path(oid)}: {', '.join(names.get(oid, ['of another commit']))}" for oid in broken
    ]
    again = (
        "run make push EXPERIMENTS=origin in a clone whose files are intact"
        if remote
        else "run dvc repro --pull, or dvc repro"
    )
    count = "1 object is" if len(broken) == 1 else f"{len(broken):,} objects are"
    command = f"python -m pipeline cache verify{f' --remote {remote}' if remote else ''} --remove"
    raise PipelineError(
        f"{name}: {count} damaged:\n"
        + "\n".join(f"  {line}" for line in lines)
        + (f"\nDeleted: {again}" if remove else f"\nTo delete, run {command}, then {again}")
    )


def _lists(place: Any, oids: list[str]) -> Iterator[str]:
    """Yield the ids of the folders in `place` that contain one of the files `oids`."""
    for oid in place.all():
        if oid.endswith(".dir") and oid not in oids:
            files = json.loads(place.fs.cat_file(place.oid_to_path(oid)))
            if any(file["md5"] in oids for file in files):
                yield oid


def _broken(place: Any, name: str) -> Iterator[str]:
    """Read all objects in `place`, several at once; yield the ids of those whose md5 does not match."""
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
    """Return the paths of all outputs, and of the files in output folders, by the id of their content."""
    found: dict[str, list[str]] = {}
    for stage in repo.index.stages:
        for out in stage.outs:
            found.setdefault(str(out.hash_info.value), []).append(out.fs_path)
            for key, _, info in (out.get_obj() or ()) if out.hash_info.isdir else ():
                found.setdefault(str(info.value), []).append(str(Path(out.fs_path, *key)))
    return {oid: [os.path.relpath(path) for path in paths] for oid, paths in found.items()}


def _same(path: Path, other: Path) -> bool:
    return path.exists() and path.samefile(other)
