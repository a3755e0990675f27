"""A pipeline run event by event: the order of work that each stage keeps, and nothing but dependencies besides.

Orders are those of D. Narayanan et al., SC 2021: 1F1B begins with as many forward passes as stages follow, then goes forward and
backward in turn; interleaved, microbatches pass in groups of as many as there are stages, piece after piece.
"""

from __future__ import annotations

Job = tuple[bool, int, int]  # forward, piece, microbatch


def orders(stages: int, microbatches: int, pieces: int) -> list[list[Job]]:
    """The order of work of every stage."""
    total = microbatches * pieces

    def job(count: int, forward: bool) -> Job:
        group, within = divmod(count, stages * pieces)
        piece = within // stages
        return forward, piece if forward else pieces - 1 - piece, group * stages + within % stages

    found = []
    for stage in range(stages):
        if pieces == 1:
            first = min(total, stages - stage - 1)
            plain: list[Job] = [(True, 0, k) for k in range(first)]
            for k in range(total - first):
                plain += [(True, 0, first + k), (False, 0, k)]
            found.append(plain + [(False, 0, k) for k in range(total - first, total)])
            continue
        first = min(total, 2 * (stages - stage - 1) + (pieces - 1) * stages)
        order = [job(k, True) for k in range(first)]
        for k in range(total - first):
            order += [job(first + k, True), job(k, False)]
        found.append(order + [job(k, False) for k in range(total - first, total)])
    return found


def makespan(stages: int, microbatches: int, pieces: int, forward: list[float], backward: list[float]) -> float:
    """When the last stage ends; `forward` and `backward` give a piece's time of each stage."""
    done: dict[tuple[bool, int, int, int], float] = {}
    waiting = [list(order) for order in orders(stages, microbatches, pieces)]
    free = [0.0] * stages
    while any(waiting):
        moved = False
        for stage, order in enumerate(waiting):
            while order:
                ready = _ready(order[0], stage, stages, pieces, done)
                if ready is None:
                    break
                going, piece, microbatch = order.pop(0)
                end = max(free[stage], ready) + (forward if going else backward)[stage]
                free[stage] = done[going, piece, microbatch, stage] = end
                moved = True
        assert moved, "a deadlock"
    return max(free)


def _ready(job: Job, stage: int, stages: int, pieces: int, done: dict[tuple[bool, int, int, int], float]) -> float | None:
    forward, piece, microbatch = job
    if forward:
        before = (piece, stage - 1) if stage else (piece - 1, stages - 1)
        if before[0] < 0:
            return 0.0
        return done.get((True, before[0], microbatch, before[1]))
    after = (piece, stage + 1) if stage < stages - 1 else (piece + 1, 0)
    if after[0] == pieces:
        return done.get((True, piece, microbatch, stage))
    return done.get((False, after[0], microbatch, after[1]))
