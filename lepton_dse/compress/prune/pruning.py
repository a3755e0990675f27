"""Pruning: a graph in, a new graph out."""

from __future__ import annotations

from lepton_dse.compress.prune.channels import cut, silenced
from lepton_dse.compress.prune.dependencies import Dependencies, dependencies
from lepton_dse.compress.prune.scores.protocol import Score
from lepton_dse.compress.prune.scoring import ranked_scores
from lepton_dse.compress.prune.selection import choose, unit_scores
from lepton_dse.compress.prune.settings import Kind, Scope, Settings
from lepton_dse.compress.prune.sites import contractions, refusal, sites
from lepton_dse.compress.prune.weights import refused_shape, zeroed
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph, LoweredGraph
from lepton_dse.registry import Group, load

__all__ = ["masked", "prune"]


def prune(
    graph: Graph,
    ratio: float,
    *,
    kind: str = Kind.WEIGHTS,
    score: str = "magnitude",
    scope: str = Scope.LAYER,
    data: Dataset | None = None,
    n: int = 2,
    m: int = 4,
    block: tuple[int, int] = (4, 4),
) -> Graph:
    """Remove what matters least.

    Parameters
    ----------
    graph : Graph
        A float graph.
    ratio : float
        Share to remove, 0 to below 1: of the weights of every layer ("weights"), of its blocks ("block"), or of the channels of
        every group of coupled channels ("channels"), rounded down. For "n:m" it is what the pattern gives, 1 - n/m. Weights that
        are zero already count as removed.
    kind : str
        ``"weights"``, ``"n:m"``, ``"block"`` or ``"channels"``. The first three leave exact zeros; channels are cut out.
    score : str
        What tells how much a weight matters, a name registered in ``lepton_dse.scores``. A block or channel has the mean of its
        weights.
    scope : str
        ``"layer"`` removes the share in every layer or group, ``"global"`` over the whole network: single weights and blocks by
        their scores as they are, channels by their scores over the mean of their group. A tenth of each layer or group is kept
        (less only where the ratio itself is greater than nine tenths).
    data : Dataset, optional
        Samples, for scores that need them.
    n, m : int
        Of m neighbouring input channels (at each tap of a convolution) n weights stay.
    block : (int, int)
        Rows (output channels) and columns (input channels and taps) of a block.

    Returns
    -------
    Graph
        Layers that cannot be pruned are as they were; :func:`lepton_dse.compress.prune.report.report` says which, and why.

    Raises
    ------
    LeptonError
        If an argument is outside its range, a score is not usable, or nothing in the graph can be pruned this way.
    """
    settings = Settings.of(ratio, kind=kind, score=score, scope=scope, n=n, m=m, block=block)
    return _pruned(graph, settings, data, shrink=True)


def masked(
    graph: Graph,
    ratio: float,
    *,
    kind: str = Kind.WEIGHTS,
    score: str = "magnitude",
    scope: str = Scope.LAYER,
    data: Dataset | None = None,
    n: int = 2,
    m: int = 4,
    block: tuple[int, int] = (4, 4),
) -> Graph:
    """The graph in its own shapes with zeros for what :func:`prune` removes; takes the same arguments.

    Of a removed channel the weights and biases that produce it and the weights that read it are zero, so that the outputs are
    those of the pruned graph up to the order of summation, whatever an activation makes of zero. For other kinds it is the pruned
    graph.
    """
    settings = Settings.of(ratio, kind=kind, score=score, scope=scope, n=n, m=m, block=block)
    return _pruned(graph, settings, data, shrink=False)


def _pruned(graph: Graph, settings: Settings, data: Dataset | None, *, shrink: bool) -> Graph:
    if isinstance(graph, LoweredGraph):
        raise LeptonError("is lowered to integers", where=graph.name, fix="prune the float graph and lower it again")
    score: Score = load(Group.SCORES, settings.score)
    if settings.ratio == 0:
        return graph
    if settings.kind is not Kind.CHANNELS:
        _check_weights(graph, settings)
        return zeroed(graph, settings, ranked_scores(graph, settings.score, score(graph, data)))
    found = dependencies(graph)
    _check_channels(graph, found)
    removed = choose(found, unit_scores(graph, found, ranked_scores(graph, settings.score, score(graph, data))), settings)
    return (cut if shrink else silenced)(graph, found, removed)


def _check_weights(graph: Graph, settings: Settings) -> None:
    """Whether any layer can take the pattern at all."""
    places = sites(graph)
    reasons = [refused_shape(site, settings) for site in places]
    if not all(reasons):
        return
    first = reasons[0] if reasons else next((refusal(graph, op) for op in contractions(graph)), "it multiplies with no weights")
    where = places[0].op.name if places else graph.name
    raise LeptonError(f"no layer can be pruned as '{settings.kind}': {first}", where=where, fix="use another kind")


def _check_channels(graph: Graph, found: Dependencies) -> None:
    """Whether any channel can leave at all."""
    if any(not group.reason for group in found.groups):
        return
    first = found.groups[0].reason if found.groups else "no weights produce any"
    raise LeptonError(f"no channel can be removed: {first}", where=graph.name, fix="use another kind")
