"""Runs tasks on an executor and outlives its workers.

When a worker dies, its whole pool is lost and nobody knows which task was to blame. What had not come back is then run once more
in a new pool; if that is lost too, the rest goes one part at a time, and a part that takes two workers with it is given up. A
Dask cluster by itself runs again what a lost worker had; a task that killed several comes back as such, and goes by parts too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from lepton_dse.errors import LeptonError
from lepton_dse.jit import use_one_thread
from lepton_dse.study.work import Task, UnfitWorkerError, execute

__all__ = ["Here", "Runner", "one_thread_each", "process_pool"]

Answer = TypeVar("Answer")
Result = TypeVar("Result")
P = ParamSpec("P")
_ATTEMPTS = 2
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Runner:
    """Runs tasks, each at most a few times; a context manager.

    Parameters
    ----------
    executor : Executor or callable
        An executor that its owner shuts down, or what makes one: then it is made anew when its workers are lost, and shut down at
        the end.
    """

    def __init__(self, executor: Executor | Callable[[], Executor]) -> None:
        self._make = None if isinstance(executor, Executor) else executor
        self._made = executor if isinstance(executor, Executor) else None
        self._broken = False

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._make is not None and self._made is not None:
            self._made.shutdown(wait=True, cancel_futures=True)

    @property
    def _executor(self) -> Executor:
        """Made when the first task comes: a study that has all of its answers starts no worker."""
        if self._made is None:
            assert self._make is not None
            self._made = self._make()
        return self._made

    def run(self, tasks: Sequence[Task[Answer]]) -> Iterator[tuple[int, Answer]]:
        """Position and answer of each task, as they come."""
        left = dict(enumerate(tasks))
        for attempt in range(_ATTEMPTS):
            lost = False
            for position, answer in self._together(left, attempt):
                if answer is None:
                    lost = True
                    continue
                del left[position]
                yield position, answer
            if not lost:
                return
            if not self._broken:
                break
            self._renew()
        for position, task in left.items():
            yield position, task.joined([self._alone(part) for part in task.split()])

    def _together(self, tasks: dict[int, Task[Answer]], attempt: int) -> Iterator[tuple[int, Answer | None]]:
        """Answers as they come; None for a task that was lost with its workers."""
        try:
            futures = {self._executor.submit(execute, task, attempt): position for position, task in tasks.items()}
        except BrokenExecutor:
            self._broken = True
            yield from ((position, None) for position in tasks)
            return
        try:
            for future in as_completed(futures):
                try:
                    yield futures[future], _answer(future)
                except BrokenExecutor:
                    self._broken = True
                    yield futures[future], None
                except _killed_worker():
                    yield futures[future], None
        finally:
            for future in futures:
                future.cancel()  # where nobody waits for the rest any more

    def _alone(self, task: Task[Answer]) -> Answer:
        ended = attempt = 0
        while ended < _ATTEMPTS:
            attempt += 1
            try:
                return _answer(self._executor.submit(execute, task, _ATTEMPTS + attempt))
            except BrokenExecutor:
                ended += 1
                self._renew()
            except _killed_worker() as error:
                ended += error.allowed_failures + 1
        return task.lost(f"it ended its worker {ended} times")

    def _renew(self) -> None:
        if self._make is None:
            raise LeptonError("the executor lost its workers", fix="give a function that makes an executor, or go on with resume")
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._made, self._broken = self._make(), False
        try:
            self._executor.submit(os.getpid).result()
        except BrokenExecutor as error:
            fix = "guard the script by 'if __name__ == \"__main__\":', or use workers=0 to compute in this process"
            raise LeptonError("worker processes cannot start", fix=fix) from error


def _answer(future: Future[Answer]) -> Answer:
    """What a task came to; what is wrong with the workers themselves is one line."""
    try:
        return future.result()
    except UnfitWorkerError as error:
        raise LeptonError(str(error)) from error
    except ImportError as error:
        raise LeptonError(f"a worker cannot read its task: {error}", fix="install on it what is installed here") from error
    except CancelledError as error:
        fix = "see whether the cluster is still there, and go on with --resume"
        raise LeptonError("the executor gave its tasks up", fix=fix) from error


def _killed_worker() -> Any:
    """What Dask raises for a task that killed several workers; nothing where Dask was never imported."""
    return getattr(sys.modules.get("distributed"), "KilledWorker", ())


class Here(Executor):
    """Computes in the calling process, one task after the other."""

    def submit(self, fn: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
        """A future that is done."""
        future: Future[Result] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def process_pool(workers: int) -> Callable[[], Executor]:
    """What makes a pool of processes, which share nothing with this one.

    They come from a server process that imports what workers need once for all of them.

    Parameters
    ----------
    workers : int
        At least 1.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([execute.__module__])
    return lambda: ProcessPoolExecutor(workers, mp_context=context, initializer=_start)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes that are started meanwhile compute with one thread, unless the environment says otherwise."""
    added = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _start() -> None:
    """An interrupt goes to the driver alone, which lets the batch finish; a worker ends with its driver, and has one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_one_thread()
    threading.Thread(target=_end_with_driver, daemon=True).start()


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)
