"""An indent-aware line writer: pure text, the same calls give the same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = ["Writer", "comment"]


def comment(text: str) -> str:
    """A name from a model file as it may stand in a comment or a string of C: it ends neither, and holds no trigraph."""
    return re.sub(r"[^\x20-\x7e]|[\\?\"]", "_", text).replace("*/", "__").replace("/*", "__")


class Writer:
    """Collects lines.

    Parameters
    ----------
    indent : str
        One level of indentation.
    """

    def __init__(self, indent: str = "    ") -> None:
        self._lines: list[str] = []
        self._indent = indent
        self._level = 0

    def line(self, text: str = "") -> None:
        """Append one line at the current level; an empty one stays empty."""
        self._lines.append(self._indent * self._level + text if text else "")

    def lines(self, texts: Iterable[str]) -> None:
        """Append several lines."""
        for text in texts:
            self.line(text)

    @contextmanager
    def block(self, opening: str, closing: str = "}") -> Iterator[None]:
        """Lines between `opening` and `closing`, one level deeper."""
        self.line(opening)
        self._level += 1
        yield
        self._level -= 1
        self.line(closing)

    def text(self) -> str:
        """Everything so far, ending in one newline."""
        return "\n".join(self._lines).rstrip("\n") + "\n"
