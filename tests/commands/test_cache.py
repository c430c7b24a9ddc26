"""Sharing: on a directory, over SSH, on S3, in one cache; repairs; and no secret in git."""

import configparser
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.commands import cache
from pipeline.errors import PipelineError
from tests import servers
from tests.project import RAN, RESTORED, ROOT, Project
from tests.servers import Remote

KINDS = ("directory", "ssh", "s3")
# Another number of epochs and another learning rate, so that the scores differ.
CHANGES = {"train.epochs": 2, "train.learning_rate": 0.02}
LONGER: tuple[str, ...] = ("dvc", "exp", "run", "--pull", "-n", "longer")
LONGER += tuple(part for name, value in CHANGES.items() for part in ("-S", f"{name}={value}"))
VERIFY = ("python", "-m", "pipeline", "cache", "verify")
CHECK = "dvc.lock is true"
IN_GIT = ("results/metrics.json", "results/export.json")


# --------------------------------------------------------------------------------------------- a team


class Team:
    """A, whose pipeline has run, the git repository that all clone, and the remotes that they share."""

    def __init__(self, home: Path, finished: Path, stack: ExitStack) -> None:
        self._home, self._stack = home, stack
        self._remotes: dict[str, Remote] = {}
        self.a = Project(home / "a" / "project", copied=finished)
        _configure(self.a, 'cache.type = "hardlink"')
        self.a.run("dvc", "checkout", "--relink")
        self.origin = home / "origin.git"
        self.a.run("git", "clone", "-q", "--bare", ".", str(self.origin))
        self.a.run("git", "remote", "add", "origin", str(self.origin))

    def remote(self, kind: str) -> Remote:
        """Return the remote of this kind. Its server starts at the first call."""
        if kind not in self._remotes:
            server = {"directory": _directory, "ssh": servers.ssh, "s3": servers.s3}[kind]
            self._remotes[kind] = self._stack.enter_context(server(self._home / kind))
        return self._remotes[kind]

    def use(self, project: Project, kind: str) -> None:
        """Make this remote the project's default, as docs/sharing.md says."""
        remote = self.remote(kind)
        options = {"url": remote.url, "verify": "true", **remote.options, **remote.secrets}
        lines = ["[core]", f"remote = {kind}", f"['remote \"{kind}\"']"]
        lines += [f"{name} = {value}" for name, value in options.items()]
        (project.path / ".dvc" / "config.local").write_text("\n".join(lines) + "\n")

    def clone(self, name: str, kind: str) -> Project:
        """Return a fresh clone, in its own home folder, with this remote."""
        project = Project(self._home / name / "project", self.origin)
        self.use(project, kind)
        return project


@contextmanager
def _directory(folder: Path) -> Iterator[Remote]:
    folder.mkdir()
    yield Remote(str(folder))


def _configure(project: Project, *lines: str) -> None:
    """Set options in the clone's own configuration, each `section.name = value`."""
    found = [line.partition(".") for line in lines]
    (project.path / ".dvc" / "config.local").write_text("".join(f"[{s}]\n{rest}\n" for s, _, rest in found))


@pytest.fixture(scope="module")
def team(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """A team of one, who has computed everything. Files in the clone are links into its cache."""
    with ExitStack() as stack:
        yield Team(tmp_path_factory.mktemp("home"), finished, stack)


@pytest.fixture(scope="module")
def published(team: Team) -> Team:
    """The team after A has published everything on a directory."""
    team.use(team.a, "directory")
    _publish(team.a)
    return team


@pytest.fixture(scope="module")
def b(published: Team) -> Project:
    """B, a clone in which the experiment `longer` has run, and only the stages that A had not run."""
    b = published.clone("b", "directory")
    assert b.repro("--pull") == set()
    ran = set(RAN.findall(b.run(*LONGER)))
    assert {"train", "evaluate"} <= ran <= _follows(b, "train")
    return b


def _publish(project: Project, *options: str) -> str:
    """Run `make push` with these options."""
    return project.run("make", "-o", ".venv/.ready", "push", *options)


def _lock(project: Project) -> Any:
    """Return the stages in dvc.lock."""
    return YAML(typ="safe").load((project.path / "dvc.lock").read_text(encoding="utf-8"))["stages"]


def _follows(project: Project, name: str) -> set[str]:
    """Return the stage and all stages that depend on its outputs, directly or not."""
    stages, found = _lock(project), {name}
    while True:
        outs = {out["path"] for stage in found for out in stages[stage]["outs"]}
        new = {
            name for name, stage in stages.items() if outs & {dep["path"] for dep in stage.get("deps", [])}
        }
        if new <= found:
            return found
        found |= new


def _contents(project: Project) -> dict[str, str]:
    """Return the md5 of every file of every output, by path."""
    outs = [project.path / out["path"] for stage in _lock(project).values() for out in stage["outs"]]
    files = [file for out in outs for file in (sorted(out.rglob("*")) if out.is_dir() else [out])]
    return {
        file.relative_to(project.path).as_posix(): hashlib.md5(file.read_bytes()).hexdigest()
        for file in files
        if not file.is_dir()
    }


def _objects(project: Project) -> set[Path]:
    return {path for path in (project.path / ".dvc/cache/files").rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------ on a remote


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", KINDS)
def test_nobody_computes_what_a_teammate_has_published(published: Team, b: Project, kind: str) -> None:
    """A publishes, and a clone computes nothing. B publishes an experiment, and A computes nothing."""
    a, remote = published.a, published.remote(kind)
    published.use(a, kind)
    _publish(a)
    clone = published.clone(f"clone-{kind}", kind)
    before, start = remote.relay.received if remote.relay else 0, time.monotonic()
    output = clone.run("dvc", "repro", "--pull")
    seconds = time.monotonic() - start
    received = (
        remote.relay.received - before if remote.relay else sum(p.stat().st_size for p in _objects(clone))
    )
    assert RAN.findall(output) == []
    assert _contents(clone) == _contents(a)
    assert clone.run("git", "status", "--short") == ""
    print(f"| {kind} | 0 | {received:,} | {seconds:.1f} |")

    published.use(b, kind)
    _publish(b, "EXPERIMENTS=origin")
    before_pull = _objects(a)
    a.run("dvc", "exp", "pull", "origin", "longer")
    assert len(_objects(a)) > len(before_pull)  # this remote had it
    (shown,) = (base for base in json.loads(a.run("dvc", "exp", "show", "--json")) if base["experiments"])
    ((row,),) = ([other["revs"][0]["data"] for other in base] for base in [shown["experiments"]])
    assert row["params"]["params.yaml"]["data"]["train"]["epochs"] == 2
    assert row["metrics"]["results/metrics.json"]["data"]["epoch"] in (1, 2)
    a.run("dvc", "exp", "apply", "longer")
    assert a.repro("--pull") == set()
    assert _contents(a) == _contents(b)
    a.run("git", "checkout", "-q", ".")
    a.run("dvc", "checkout")
    a.run("dvc", "exp", "remove", "longer")
    for path in _objects(a) - before_pull:
        path.unlink()


@pytest.mark.tensorflow
def test_a_published_run_of_other_parameters_is_restored(published: Team, b: Project) -> None:
    """A clone that sets the parameters of B's run restores its training and evaluation, metrics included."""
    published.use(b, "directory")
    _publish(b, "EXPERIMENTS=origin")
    clone = published.clone("other", "directory")
    clone.set_params(CHANGES)
    output = clone.run("dvc", "repro", "--pull")
    assert RAN.findall(output) == []
    assert {"train", "evaluate"} <= set(RESTORED.findall(output))
    assert _contents(clone) == _contents(b)


@pytest.mark.tensorflow
def test_a_changed_feature_and_back_is_restored(published: Team) -> None:
    """A changes features.mfcc.n_mfcc and back: the feature is computed once, then all is restored."""
    a = published.a
    a.set_params({"features.mfcc.n_mfcc": 13})
    assert "featurize@mfcc" in a.repro("featurize@mfcc") <= {"featurize@mfcc"}
    a.run("git", "checkout", "-q", "params.yaml")
    output = a.run("dvc", "repro")
    assert RAN.findall(output) == []
    assert "featurize@mfcc" in RESTORED.findall(output)
    assert a.run("git", "status", "--short") == ""


@pytest.mark.tensorflow
def test_training_fetches_only_one_feature_and_the_split(published: Team) -> None:
    """`dvc repro --pull --allow-missing train` fetches no clips, waveforms or other features."""
    clone = published.clone("needed", "directory")
    clone.set_params(
        {"feature": "mfcc", "train.epochs": 0}
    )  # which train refuses: what it needs is there by then
    clone.fails("dvc", "repro", "--pull", "--allow-missing", "train")
    found = {path.relative_to(clone.path).as_posix() for path in (clone.path / "data").rglob("*.*")}
    assert {path for path in found if (clone.path / path).is_file()} - {"data/.gitignore"} == {
        "data/split.csv",
        "data/features/mfcc.h5",
    }
    assert len(_objects(clone)) == 2


@pytest.mark.tensorflow
def test_make_run_pulls_from_the_remote(published: Team) -> None:
    """`make run` fetches from the default remote, fails if it is unreachable, and works without one."""
    clone = published.clone("make", "directory")
    make = ("make", "-o", ".venv/.ready", "run")
    output = clone.run(*make)
    assert "Pulling data for stage: 'download'" in output
    assert RAN.findall(output) == []
    (clone.path / ".dvc/config.local").write_text(
        "[core]\nremote = x\n['remote \"x\"']\nurl = ssh://127.0.0.1:9/x\n"
    )
    assert "Connect call failed" in clone.fails(*make)
    (clone.path / ".dvc/config.local").unlink()
    assert RAN.findall(clone.run(*make)) == []


# ------------------------------------------------------------------------------- lost, broken, regained


def _flip(path: Path) -> None:
    """Change a byte of a file as a faulty disk does: its time and mode stay."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(status.st_mode & 0o777)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _object(folder: Path, project: Project, stage: str) -> Path:
    """Return the object in a cache or remote of the stage's output, or of its list if it is a folder."""
    md5s = [str(out["md5"]) for out in _lock(project)[stage]["outs"]]
    md5 = next((md5 for md5 in md5s if md5.endswith(".dir")), md5s[0])
    return folder / "files/md5" / md5[:2] / md5[2:]


@pytest.mark.tensorflow
def test_a_broken_object_is_found_named_and_repaired(published: Team) -> None:
    """`verify` names the output with a flipped byte, in a remote or a cache; the documented repair works."""
    store, a = Path(published.remote("directory").url), published.a
    published.use(a, "directory")
    _flip(_object(store, a, "featurize@mfcc"))
    clone = published.clone("broken", "directory")
    assert clone.repro("--pull") == {"featurize@mfcc"}  # it is computed, and the broken copy is not used
    assert _contents(clone) == _contents(a)
    named = clone.fails(*VERIFY, "--remote", "directory")
    assert re.search(r"remote directory: 1 object is damaged:\n.*: data/features/mfcc\.h5\n", named)
    assert "run python -m pipeline cache verify --remote directory --remove, then run make push" in named
    assert "Traceback" not in named
    clone.fails(*VERIFY, "--remote", "directory", "--remove")
    assert "1 file pushed" in clone.run("dvc", "push")
    clone.run(*VERIFY, "--remote", "directory")
    listed = json.loads(_object(store, a, "extract").read_text())
    clip = store / "files/md5" / listed[0]["md5"][:2] / listed[0]["md5"][2:]
    _flip(clip)  # a file of a folder; DVC pushes none if the remote has the folder's list
    clone.fails(*VERIFY, "--remote", "directory", "--remove")
    assert not clip.exists()
    assert "2 files pushed" in clone.run("dvc", "push")
    clone.run(*VERIFY, "--remote", "directory")

    with (clone.path / ".dvc/config.local").open("a") as file:
        file.write("[cache]\ntype = hardlink\n")  # so that the output is damaged too
    clone.run("dvc", "checkout", "--relink")
    tree = json.loads(_object(clone.path / ".dvc/cache", clone, "extract").read_text())
    broken = clone.path / ".dvc/cache/files/md5" / tree[0]["md5"][:2] / tree[0]["md5"][2:]
    _flip(broken)
    assert f"data/raw/{tree[0]['relpath']}\n" in clone.fails(*VERIFY, "--remove")
    assert clone.repro("--pull") == set()
    assert _contents(clone) == _contents(a)
    clone.run(*VERIFY)


@pytest.mark.tensorflow
def test_files_that_gc_deleted_are_restored(published: Team) -> None:
    """After `dvc gc --workspace` and the loss of the whole cache, the remote restores everything."""
    clone = published.clone("gc", "directory")
    clone.repro("--pull", "featurize@mfcc")
    clone.set_params({"features.mfcc.n_mfcc": 13})
    clone.repro("featurize@mfcc")
    before = _object(clone.path / ".dvc/cache", published.a, "featurize@mfcc")
    now = _object(clone.path / ".dvc/cache", clone, "featurize@mfcc")
    assert before.exists()
    assert now.exists()
    clone.run("dvc", "gc", "--workspace", "--force")
    assert not before.exists()
    assert now.exists()
    clone.run("git", "checkout", "-q", ".")
    assert clone.repro("--pull", "featurize@mfcc") == set()
    shutil.rmtree(clone.path / ".dvc/cache")
    assert clone.repro("--pull") == set()
    assert _contents(clone) == _contents(published.a)


# --------------------------------------------------------------------------------------- one cache for all

# Runs the stages' own commands in one process, because TensorFlow takes seconds to import.
BY_HAND = """
import os, runpy, sys
folder, *commands = sys.argv[1:]
for clone in folder.split(os.pathsep):
    os.chdir(clone)
    sys.path[0] = clone
    for command in commands:
        python, option, module, *args = command.split()
        assert (python, option) == ("python", "-m"), command
        sys.argv = [module, *args]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
# Parameters that change the bytes of every output.
OTHER = {
    "datasets.demo.seed": 1,
    "audio.duration": 0.7,
    "features.stft.window": "hamming",
    "features.logmel.n_mels": 20,
    "features.mfcc.n_mfcc": 13,
    "split.seed": 1,
    "models.rnn.units": 5,
}


@pytest.mark.tensorflow
def test_no_stage_writes_through_a_link_into_a_shared_cache(team: Team) -> None:
    """A stage that is run by hand over outputs that are links never changes the cache, even as root.

    Clones that are linked to one cache have no copies of their own.
    """
    cache = team.a.path / ".dvc/cache"
    objects = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in _objects(team.a)}
    clones = []
    for link in ("hardlink", "symlink"):
        clone = Project(team.origin.parent / link / "project", team.origin)
        with (clone.path / ".dvc/config.local").open("w") as file:
            file.write(f"[cache]\ndir = {cache}\ntype = {link}\nshared = group\n")
        clone.run("dvc", "checkout")
        files = [clone.path / path for path in _contents(clone) if path not in IN_GIT]
        inodes = {inode for inode, _ in objects.values()}
        assert all(file.stat().st_ino in inodes for file in files)
        assert all(file.is_symlink() == (link == "symlink") for file in files)
        clone.set_params(OTHER)
        clones.append(clone)
    before = [_contents(clone) for clone in clones]
    order = [line.split()[0] for line in clones[0].run("dvc", "stage", "list").splitlines()]
    commands = [_lock(team.a)[stage]["cmd"] for stage in order if stage in _lock(team.a)]
    folders = os.pathsep.join(str(clone.path) for clone in clones)
    clones[0].run(sys.executable, "-c", BY_HAND, folders, *commands)
    for clone, old in zip(clones, before, strict=True):
        new = _contents(clone)
        same = {path for path in new if old.get(path) == new[path]}
        # The archive has no tables, and one other file. The tiny models predict one label for all clips, and
        # so score the same. None is exported.
        unchanged = {"data/left_out.csv", "data/rejects.csv", "data/tables.zip"}
        unchanged |= {"results/labels.csv", "results/export.json", "models/export/labels.txt"}
        assert same <= unchanged
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in _objects(team.a)} == objects
    team.a.run(*VERIFY)


# ---------------------------------------------------------------------------------- continuous integration


def _step(name: str) -> str:
    """Return the commands of a step of the workflow for pull requests."""
    workflow = YAML(typ="safe").load((ROOT / ".github/workflows/results.yml").read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    (found,) = [step["run"] for step in steps if step.get("name") == name]
    return str(found)


def _bash(script: str) -> tuple[str, ...]:
    return ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script)  # as GitHub runs it


@pytest.mark.tensorflow
def test_continuous_integration_finds_a_stale_lock(published: Team) -> None:
    """The workflow's check passes on a fresh clone without data, and fails after each kind of change."""
    clone = published.clone("ci", "directory")
    check = _bash(_step(CHECK))
    clone.run(*check)
    assert _objects(clone) == set()
    for change in ({"datasets.demo.seed": 1}, {"train.epochs": 2}):
        clone.set_params(change)
        clone.fails(*check)
        clone.run("git", "checkout", "-q", ".")
    code = clone.path / "pipeline/stages/evaluate.py"
    code.write_text(code.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
    clone.fails(*check)
    clone.run("git", "checkout", "-q", ".")
    lock = clone.path / "dvc.lock"
    for stage in ("featurize@mfcc", "split", "train"):  # as if only one stage had run before the commit
        md5 = _lock(clone)[stage]["outs"][0]["md5"]
        head, _, tail = lock.read_text().partition(f"  {stage}:\n")
        lock.write_text(f"{head}  {stage}:\n{tail.replace(md5, 'f' * 32, 1)}")
        clone.fails(*check)
        assert "but it was written as" in clone.fails("python", "-m", "pipeline", "cache", "check-lock")
        clone.run("git", "checkout", "-q", ".")
    (clone.path / ".dvc/config.local").unlink()
    clone.run(*check)  # also without a remote


@pytest.mark.tensorflow
def test_continuous_integration_reports_a_change_against_main(published: Team, b: Project) -> None:
    """The workflow's report has the changed parameter and metrics, and, with a remote, plots."""
    published.use(b, "directory")
    _publish(b)
    clone = published.clone("report", "directory")
    clone.run("dvc", "exp", "pull", "origin", "longer")
    clone.run("dvc", "exp", "apply", "longer")
    clone.run("git", "checkout", "-q", "-b", "longer")
    clone.commit()
    script = "BASE=main TRUSTED=true\n" + _step("Fetch what the plots show") + "\n" + _step("Report")
    for remote in (True, False):
        if not remote:
            (clone.path / ".dvc/config.local").unlink()
            shutil.rmtree(clone.path / ".dvc/cache")
            shutil.rmtree(clone.path / "dvc_plots")
        clone.run(*_bash(script))
        report = (clone.path / "report.md").read_text(encoding="utf-8")
        assert re.search(r"\| params.yaml\s*\| train.epochs\s*\| 1\s*\| 2\s*\|", report)
        assert "results/metrics.json" in report
        assert (clone.path / "dvc_plots/index.html").exists() == remote


# ------------------------------------------------------------------------------------------- credentials

# Credentials in the form that their issuers give them, as options of DVC, and in URLs.
SECRETS = {
    "an AWS access key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_\w{60}",
    "a Google key": r"\bAIza[\w-]{35}|\"private_key_id\"",
    "an Azure key": r"AccountKey=[A-Za-z0-9+/]{40}|[?&]sig=[A-Za-z0-9%]{40}",
    "a Slack or GitLab token": r"\bxox[abprs]-[\w-]{10}|\bglpat-[\w-]{20}",
    "a password in a URL": r"\b[a-z][a-z0-9+.-]*://[^\s/:@$({'\"]+:[^\s/@$({'\"]+@",
    "a secret that is set": (
        r"(?i)\b(?:aws_)?(?:secret_access_key|session_token|password|passphrase|account_key|sas_token"
        r"|client_secret|api_key|auth_token)\b[\"']?[ \t]*[=:][ \t]*[\"']?[\w+/.-]{8}"
    ),
}
# Options of DVC's remotes that belong to --local.
PRIVATE = {"password", "passphrase", "access_key_id", "secret_access_key", "session_token", "keyfile"}
PRIVATE |= {"connection_string", "account_key", "sas_token", "client_secret", "credentialpath", "user"}


def _secrets(folder: Path) -> list[str]:
    """Return file, line and kind of each credential in files that git tracks, or would, in `folder`."""
    command = ["git", "-C", str(folder), "ls-files", "-zco", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    found = []
    for name in filter(None, names):
        path = folder / name
        if not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            found += [f"{name}:{number}: {what}" for what, form in SECRETS.items() if re.search(form, line)]
        if name == ".dvc/config":
            config = configparser.ConfigParser(interpolation=None)
            config.read(path)
            found += [f"{name}: {key}" for part in config for key in config[part] if key in PRIVATE]
    return found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "dvc.lock: expected a valid dictionary"),
        ("stages: [1]", "dvc.lock: stages: expected a valid dictionary"),
        ("stages: {split: {deps: [{path: data/clips.csv}]}}", "dvc.lock: stages.split.deps.0.md5 is missing"),
        ("stages: {split: }}", "dvc.lock is not YAML"),
        ("stages: [", "dvc.lock is not YAML"),
        ("\xff", "dvc.lock is not YAML"),
    ],
)
def test_a_damaged_lock_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    """A dvc.lock that was cut or merged badly is named, with what to do."""
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_bytes(content.encode("latin-1"))
    with pytest.raises(PipelineError, match=message) as error:
        cache._check_lock()
    assert "run git checkout dvc.lock" in str(error.value)


def test_no_credential_is_in_the_repository() -> None:
    """No file that git tracks, or would, has a credential; .dvc/config.local is not tracked."""
    assert _secrets(ROOT) == []
    subprocess.run(["git", "-C", ROOT, "check-ignore", "-q", ".dvc/config.local"], check=True)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.sh", "export AWS_ACCESS_KEY_ID=" + "AKIA" + "ABCDEFGHIJKLMNOP"),
        ("key", "-----BEGIN OPENSSH " + "PRIVATE KEY-----"),
        ("ci.yml", "token: " + "ghp_" + "a1" * 18),
        ("notes.md", "dvc remote add team ssh://ann:" + "hunter22@example.com/dvc"),
        ("azure.txt", "DefaultEndpointsProtocol=https;AccountKey" + "=" + "Ab1/" * 20),
        ("settings.toml", "secret_access" + '_key = "abcdefgh12345678"'),
        (".dvc/config", "['remote \"team\"']\n    url = s3://speech\n    access_key_id = me"),
    ],
)
def test_a_credential_in_the_repository_is_found(tmp_path: Path, file: str, content: str) -> None:
    """The search names the file with each kind of credential, and finds nothing in a clean folder."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "clean.md").write_text(
        "dvc remote modify --local team password\nssh://ann@example.com:22/dvc\n"
    )
    assert _secrets(tmp_path) == []
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content + "\n")
    (found,) = _secrets(tmp_path)
    assert found.startswith(file)
