"""Real servers on loopback to share a cache on: OpenSSH, and OpenStack Swift with its S3 interface.

Each runs as plain processes of this user, in a folder of its own. `make servers` installs them.
"""

import getpass
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import botocore.session
import pytest

DAEMONS = f"{os.environ['PATH']}:/usr/sbin:/sbin"
WAIT = 30  # seconds for a server to answer
# Where the servers of Swift find each other, for the Python that it is installed for: 4 partitions, 1 copy.
RINGS = """
import json, sys
from swift.common.ring import RingBuilder
for kind, port in json.loads(sys.argv[2]).items():
    builder = RingBuilder(2, 1, 0)
    device = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "disk", "weight": 1}
    builder.add_dev(device)
    builder.rebalance()
    builder.get_ring().save(f"{sys.argv[1]}/{kind}.ring.gz")
"""
PROXY = """
from swift.common.wsgi import init_request_processor
application = init_request_processor({config!r}, "proxy-server")[0]
"""
UWSGI = [
    "--http-manage-expect",
    "--buffer-size",
    "65535",
    "--die-on-term",
    "--master",
    "--enable-threads",
    "--threads",
    "1",
]


@dataclass(frozen=True)
class Remote:
    """A remote's URL, its options, and its secrets, which stay out of the repository."""

    url: str
    options: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    relay: "Relay | None" = None


class Relay:
    """A port before a server's that counts the bytes `sent` to it and `received` from it.

    With `rate`, in bytes/s, it receives no faster: all connections together.
    """

    def __init__(self, port: int) -> None:
        self.sent = self.received = 0
        self.rate = 0.0
        self._target = port
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # closed, or the server has gone
                return
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for ends in ((client, server, "sent"), (server, client, "received")):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counter: str) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                with self._lock:
                    setattr(self, counter, getattr(self, counter) + len(data))
                    if self.rate and counter == "received":
                        time.sleep(len(data) / self.rate)
                sink.sendall(data)
        for end in (source, sink):  # neither SSH nor HTTP leaves one direction open
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def ssh(folder: Path) -> Iterator[Remote]:
    """Start an OpenSSH server that lets this user in with a new key."""
    sshd = shutil.which("sshd", path=DAEMONS)
    if not sshd:
        pytest.skip("there is no OpenSSH server: run make servers as root")
    folder.mkdir()
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists, where it is root
    port = _port()
    config = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized",
        "PidFile": folder / "pid",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "StrictModes": "no",  # the folder's parents are the test's
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in config.items()))
    with ExitStack() as stack:
        _start(stack, folder / "sshd.log", [sshd, "-D", "-e", "-f", str(folder / "config")])
        _wait(folder, port)
        (folder / "store").mkdir()
        relay = stack.enter_context(closing(Relay(port)))
        yield Remote(
            f"ssh://127.0.0.1:{relay.port}{folder}/store",
            secrets={"user": getpass.getuser(), "keyfile": str(folder / "user")},
            relay=relay,
        )


@contextmanager
def s3(folder: Path) -> Iterator[Remote]:
    """Start the four servers of OpenStack Swift, with one replica, and make a bucket."""
    if not all(map(shutil.which, ("swift-proxy-server", "uwsgi_python3", "memcached"))):
        pytest.skip("there is no OpenStack Swift: run make servers as root")
    (folder / "devices" / "disk").mkdir(parents=True)
    common = {"bind_ip": "127.0.0.1", "workers": "0", "swift_dir": folder, "user": getpass.getuser()}
    with ExitStack() as stack:
        ports = {kind: _port() for kind in ("account", "container", "object")}
        subprocess.run(["/usr/bin/python3", "-c", RINGS, folder, json.dumps(ports)], check=True)
        for kind, port in ports.items():
            storage = {**common, "bind_port": port, "devices": folder / "devices", "mount_check": "false"}
            config = _config(folder, kind, storage, {kind: {}})
            _start(stack, folder / f"{kind}.log", [f"swift-{kind}-server", config])
        memory, port = _port(), _port()
        memcached = ["memcached", "-l", "127.0.0.1", "-p", str(memory), "-u", getpass.getuser()]
        _start(stack, folder / "memcached.log", memcached)
        config = _config(
            folder,
            "proxy",
            common,
            {
                "catch_errors": {},
                "memcache": {"memcache_servers": f"127.0.0.1:{memory}"},
                "listing_formats": {},
                "s3api": {},
                "tempauth": {"user_team_mate": "secret .admin"},
                "slo": {},
                "proxy": {"account_autocreate": "true"},
            },
        )
        # In uWSGI, as Debian runs it: eventlet answers HEAD with a body, which aiohttp refuses.
        (folder / "proxy.wsgi").write_text(PROXY.format(config=config))
        uwsgi = [
            "uwsgi_python3",
            "--plugin",
            "http",
            "--http",
            f"127.0.0.1:{port}",
            "--wsgi-file",
            str(folder / "proxy.wsgi"),
        ]
        _start(stack, folder / "proxy.log", [*uwsgi, *UWSGI])
        _wait(folder, *ports.values(), memory, port)
        relay = stack.enter_context(closing(Relay(port)))
        options = {"endpointurl": f"http://127.0.0.1:{relay.port}", "region": "us-east-1"}
        secrets = {"access_key_id": "team:mate", "secret_access_key": "secret"}
        client = botocore.session.Session().create_client(
            "s3",
            options["region"],
            endpoint_url=options["endpointurl"],
            aws_access_key_id=secrets["access_key_id"],
            aws_secret_access_key=secrets["secret_access_key"],
        )
        client.create_bucket(Bucket="speech")
        yield Remote("s3://speech/dvc", options, secrets, relay)


def _config(
    folder: Path, kind: str, default: Mapping[str, object], pipeline: dict[str, dict[str, str]]
) -> str:
    """Write the configuration of one of Swift's servers, and return its path."""
    names = [f"{name}-server" if name == kind else name for name in pipeline]
    lines = ["[DEFAULT]", *(f"{name} = {value}" for name, value in default.items())]
    lines += ["[pipeline:main]", "pipeline = " + " ".join(names)]
    for name, (egg, options) in zip(names, pipeline.items(), strict=True):
        lines += [f"[{'app' if name == names[-1] else 'filter'}:{name}]", f"use = egg:swift#{egg}"]
        lines += [f"{option} = {value}" for option, value in options.items()]
    file = folder / f"{kind}.conf"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def _start(stack: ExitStack, log: Path, command: list[str]) -> None:
    """Start a server that ends with `stack`."""
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=log.parent, stdout=file, stderr=file)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def _wait(folder: Path, *ports: int) -> None:
    """Wait until all servers listen. If they do not, fail with their logs."""
    end = time.monotonic() + WAIT
    for port in ports:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if time.monotonic() > end:
                logs = "\n".join(log.read_text() for log in sorted(folder.glob("*.log")))
                raise RuntimeError(f"no server listens on {port}:\n{logs}")
            time.sleep(0.05)


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
