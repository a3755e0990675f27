"""Studies on a Dask cluster of separate processes: workers that die, and what is said of a cluster that cannot be used."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.study import Found, Step, Study, cluster
from lepton_dse.study.cluster import dask_executor

sys.path.insert(0, str(Path(__file__).parent))
from postgres import need

Make = Callable[..., Study]
COST = {"minimize": ["latency_s", "energy_j"], "data": None}
POISON = """\
import os
from lepton_dse.study import work
price = getattr(work._price, "clean", work._price)
def poisoned(inputs, candidate):
    if candidate.hardware.target == "nvidia-t4" and candidate.variant.format == "int8" and not candidate.variant.channels:
        os._exit(9)
    return price(inputs, candidate)
poisoned.clean, work._price = price, poisoned
"""
ELSEWHERE = "from lepton_dse.study import software\nsoftware.version = lambda name: 'another'\n"
UNSEEN = "from lepton_dse.study import work\nwork._TARGETS_FILE = 'not-here.json'\n"


@contextmanager
def process(*arguments: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    environment["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = "0"
    command = [sys.executable, "-m", "dask", *arguments]
    with (cwd / "log.txt").open("ab") as log:
        started = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=cwd, start_new_session=True)
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):  # where a test killed it
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    need("distributed")
    port = free_port()
    with process("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", cwd=tmp_path) as started:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert started.poll() is None, (tmp_path / "log.txt").read_text()
            time.sleep(0.1)
        yield f"tcp://127.0.0.1:{port}"


@pytest.fixture
def workers(scheduler: str, tmp_path: Path) -> Iterator[Callable[..., list[subprocess.Popen[bytes]]]]:
    """Starts workers: alone, so that a killed one is gone, or each with a nanny that starts it anew."""
    with ExitStack() as stack:

        def start(count: int, preload: str = "", *, nanny: bool = False) -> list[subprocess.Popen[bytes]]:
            arguments = ["worker", scheduler, "--nthreads", "1", "--no-dashboard", "--nanny" if nanny else "--no-nanny"]
            if preload:
                (tmp_path / "preload.py").write_text(preload)
                arguments += ["--preload", str(tmp_path / "preload.py")]
            return [stack.enter_context(process(*arguments, cwd=tmp_path)) for _ in range(count)]

        yield start


def found(study: Study) -> Found:
    assert study.found is not None
    return study.found


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(
    study: Make, scheduler: str, workers: Callable[..., list[subprocess.Popen[bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lepton_dse.study import run

    monkeypatch.setattr(run, "_TASK", 2)
    monkeypatch.setattr(cluster, "_WAIT_S", 60)
    wanted = found(study().run(workers=0))
    started = workers(2)
    steps: list[Step] = []

    def kill(step: Step) -> None:
        steps.append(step)
        if len(steps) == 5:
            started[0].kill()
            started[0].wait()

    with dask_executor(scheduler) as executor:
        executor._client.wait_for_workers(2, timeout=60)  # type: ignore[attr-defined]
        assert found(study().run(executor, progress=kill)) == wanted
    assert len(steps) > 5
    assert started[1].poll() is None


@pytest.mark.slow
def test_meshes_are_priced_on_a_cluster_too(
    study: Make, scheduler: str, workers: Callable[..., list[subprocess.Popen[bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_WAIT_S", 60)
    axes = {"targets": [{"target": "google-v5e-pod", "meshes": [1, 2], "stages": [1, 2]}], "formats": ["int8"], "channels": [0]}
    asked = {"minimize": ["latency_s", "devices", "loss_points"], "axes": axes}
    wanted = found(study(**asked).run(workers=0))
    workers(1)
    with dask_executor(scheduler) as executor:
        assert found(study(**asked).run(executor)) == wanted
    assert {row.candidate.hardware.mesh for row in wanted.front} == {"x=1", "x=2"}


@pytest.mark.slow
def test_a_candidate_that_kills_its_workers_is_recorded_with_its_reason(
    study: Make, scheduler: str, workers: Callable[..., list[subprocess.Popen[bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_WAIT_S", 60)
    clean = found(study(**COST).run(workers=0))
    workers(2, POISON, nanny=True)
    one = study(**COST)
    with dask_executor(scheduler) as executor:
        result = found(one.run(executor))
    assert (result.failed, result.evaluated) == (2, clean.evaluated), result.reasons
    assert (one.folder / "journal.log").read_text().count("it ended its worker 2 times") == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preload", "said"),
    [(UNSEEN, r"a worker on .* cannot see .*inputs.*; share the study's folder"), (ELSEWHERE, "a worker has other software")],
    ids=["unseen", "software"],
)
def test_a_worker_that_is_not_fit_is_one_line(
    study: Make,
    scheduler: str,
    workers: Callable[..., list[subprocess.Popen[bytes]]],
    monkeypatch: pytest.MonkeyPatch,
    preload: str,
    said: str,
) -> None:
    monkeypatch.setattr(cluster, "_WAIT_S", 60)
    workers(1, preload)
    one = study(**COST)
    with dask_executor(scheduler) as executor, pytest.raises(LeptonError, match=said):
        one.run(executor)
    assert found(one.run(workers=0, resume=True)) == found(study(**COST).run(workers=0))


def test_a_cluster_that_cannot_be_used_is_one_line(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_WAIT_S", 1)
    for address in (f"tcp://127.0.0.1:{free_port()}", "nowhere", "ftp://127.0.0.1:1", "tcp://127.0.0.1:no", "tcp://[::"):
        with pytest.raises(LeptonError, match="no Dask scheduler answers") as refused, dask_executor(address):
            pass
        assert refused.value.where == address
    with pytest.raises(LeptonError, match="the Dask cluster has no worker; start some: dask worker"), dask_executor(scheduler):
        pass


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingToolError, match=r"pip install 'lepton_dse\[dask\]'"), dask_executor("tcp://127.0.0.1:1"):
        pass
