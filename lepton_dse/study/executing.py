"""Runs tasks on an executor and outlives its workers.

When a worker dies, its whole pool is lost and nobody knows which task was to blame. What had not come back is then run once more
in a new pool; if that is lost too, the rest goes one part at a time, and a part that takes two workers with it is given up.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from types import TracebackType
from typing import ParamSpec, TypeVar

from lepton_dse.errors import LeptonError
from lepton_dse.study.work import Task, execute

__all__ = ["Here", "Runner", "one_thread_each", "process_pool"]

Answer = TypeVar("Answer")
Result = TypeVar("Result")
P = ParamSpec("P")
_ATTEMPTS = 2
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


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
        self._executor = executor if isinstance(executor, Executor) else executor()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._make is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def run(self, tasks: Sequence[Task[Answer]]) -> Iterator[tuple[int, Answer]]:
        """Position and answer of each task, as they come."""
        left = dict(enumerate(tasks))
        for _ in range(_ATTEMPTS):
            lost = False
            for position, answer in self._together(left):
                if answer is None:
                    lost = True
                    continue
                del left[position]
                yield position, answer
            if not lost:
                return
            self._renew()
        for position, task in left.items():
            yield position, task.joined([self._alone(part) for part in task.split()])

    def _together(self, tasks: dict[int, Task[Answer]]) -> Iterator[tuple[int, Answer | None]]:
        """Answers as they come; None for a task that was lost with its pool."""
        try:
            futures = {self._executor.submit(execute, task): position for position, task in tasks.items()}
        except BrokenExecutor:
            yield from ((position, None) for position in tasks)
            return
        try:
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except BrokenExecutor:
                    yield futures[future], None
        finally:
            for future in futures:
                future.cancel()  # where nobody waits for the rest any more

    def _alone(self, task: Task[Answer]) -> Answer:
        for _ in range(_ATTEMPTS):
            try:
                return self._executor.submit(execute, task).result()
            except BrokenExecutor:
                self._renew()
        return task.lost(f"it ended its worker {_ATTEMPTS} times")

    def _renew(self) -> None:
        if self._make is None:
            raise LeptonError("the executor lost its workers", fix="give a function that makes an executor, or go on with resume")
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = self._make()
        try:
            self._executor.submit(os.getpid).result()
        except BrokenExecutor as error:
            fix = "guard the script by 'if __name__ == \"__main__\":', or use workers=0 to compute in this process"
            raise LeptonError("worker processes cannot start", fix=fix) from error


class Here(Executor):
    """Computes in the calling process, one task after the other."""

    def submit(self, fn: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
        """A future that is done."""
        future: Future[Result] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def process_pool(workers: int) -> Callable[[], Executor]:
    """What makes a pool of processes, each started afresh.

    Parameters
    ----------
    workers : int
        At least 1.
    """
    context = multiprocessing.get_context("spawn")
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
    """An interrupt goes to the driver alone, which lets the batch finish."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
