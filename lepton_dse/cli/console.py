"""Where output goes: results to stdout, progress to stderr and only to a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["Rate", "out", "print_json", "progress"]

_PIPE_WIDTH = 150  # tables that go to a file or a pipe are not folded to an unknown terminal


def out() -> Console:
    """A console on stdout."""
    # Names from a model may hold brackets, which are no markup.
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, markup=False)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(document, indent=1, allow_nan=False))


class Rate(ProgressColumn):
    """Steps a second, or seconds a step where they are slower than that."""

    def render(self, task: Task) -> Text:
        """Text of the column."""
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


@contextmanager
def progress(total: int | None = None) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr; yields a function that names the next step.

    Parameters
    ----------
    total : int, optional
        Steps in all, where that is known: the bar then shows how many are done and the time left.
    """
    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}")]
    if total is not None:
        columns += [BarColumn(), MofNCompleteColumn(), Rate(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        started = False

        def step(text: str) -> None:
            nonlocal started
            bar.update(task, description=text, advance=1 if started else 0)
            started = True

        yield step
