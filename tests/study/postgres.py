"""A PostgreSQL server of a test's own, on a port of this machine, and packages that tests may do without."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

USER, PASSWORD = "lepton", "pass%word"
QUOTED = "pass%25word"


def missing(what: str) -> NoReturn:
    """Skip, and fail in continuous integration, which installs everything."""
    message = f"{what} is not installed"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def need(package: str) -> None:
    """Skip where an optional package is missing."""
    if importlib.util.find_spec(package) is None:
        missing(package)


@contextmanager
def server() -> Iterator[str]:
    """The URL of an empty database; skips where there is no server to start, and fails in continuous integration."""
    need("psycopg")
    binaries = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
    if binaries is None:
        missing("PostgreSQL")
    place = Path(tempfile.mkdtemp(prefix="lepton-postgres-", dir="/tmp"))
    root = os.geteuid() == 0
    as_user = ["runuser", "-u", "postgres", "--"] if root else []  # it refuses to run as root
    (place / "password").write_text(PASSWORD)
    if root:
        shutil.chown(place, "postgres")
        shutil.chown(place / "password", "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    secret = ["-U", USER, "-A", "scram-sha-256", "--pwfile", str(place / "password")]
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= -c fsync=off"
    control = [*as_user, str(binaries / "pg_ctl"), "-D", str(place / "data"), "-w"]
    try:
        subprocess.run([*as_user, str(binaries / "initdb"), "-D", str(place / "data"), *secret], check=True, capture_output=True)
        subprocess.run([*control, "-l", str(place / "log"), "-o", options, "start"], check=True, stdout=subprocess.DEVNULL)
        yield f"postgresql://{USER}:{QUOTED}@127.0.0.1:{port}/postgres"
    finally:
        if (place / "data").is_dir():
            subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True)
        shutil.rmtree(place, ignore_errors=True)
