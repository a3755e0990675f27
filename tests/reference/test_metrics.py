"""Metrics against their definitions, their intervals against what they promise, and what they refuse."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import lepton_dse as ld
from lepton_dse import registry
from lepton_dse.errors import InvalidDataError, LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import FLOAT32
from lepton_dse.reference.metrics.bootstrap import RESAMPLES, metric_of, percentile_interval
from lepton_dse.reference.metrics.proportion import Z, matched_loss
from lepton_dse.reference.metrics.protocol import Metric, Outputs

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import metrics as oracle

AUC, COSINE, AGREEMENT = (metric_of(name) for name in ("auc", "cosine", "agreement"))


@st.composite
def scored(draw: st.DrawFn, classes: int, columns: int, each: int = 2) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores with many ties, and labels with at least `each` samples a class."""
    labels = [k for k in range(classes) for _ in range(each)] + draw(st.lists(st.integers(0, classes - 1), max_size=12))
    values = st.integers(-3, 3).map(lambda value: value / 4)
    rows = draw(st.lists(st.lists(values, min_size=columns, max_size=columns), min_size=len(labels), max_size=len(labels)))
    return np.asarray(rows, np.float64), np.asarray(labels, np.int64)


# --- areas ------------------------------------------------------------------------------------------------------------


@given(scored(2, 1))
def test_the_area_of_one_score_counts_pairs(case: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    scores, labels = case
    positive, negative = (scores[labels == k, 0].tolist() for k in (1, 0))
    found = AUC.measure(Outputs(scores, labels))
    assert found.value == pytest.approx(oracle.area(positive, negative), abs=1e-12)
    half = Z * oracle.delong_variance(positive, negative) ** 0.5
    assert found.low == pytest.approx(max(found.value - half, 0), abs=1e-9)
    assert found.high == pytest.approx(min(found.value + half, 1), abs=1e-9)
    assert found.count == len(labels)
    assert AUC.measure(Outputs(scores[:, 0], labels)) == found


@given(scored(2, 2))
def test_two_scores_are_compared_by_their_difference(case: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    scores, labels = case
    found = AUC.measure(Outputs(scores, labels))
    again = AUC.measure(Outputs(scores[:, 1] - scores[:, 0], labels))
    assert (found.value, found.low, found.high) == pytest.approx((again.value, again.low, again.high), abs=1e-12)


@settings(max_examples=25)
@given(scored(3, 3))
def test_the_area_of_several_classes_is_the_mean_over_one_against_the_rest(
    case: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> None:
    scores, labels = case
    found = AUC.measure(Outputs(scores, labels, probabilities=True))
    assert found.value == pytest.approx(oracle.macro_area(scores, labels, np.ones(len(labels))), abs=1e-12)
    half = Z * oracle.macro_variance(scores, labels) ** 0.5
    assert found.high == pytest.approx(min(found.value + half, 1), abs=1e-5)
    assert found.low == pytest.approx(max(found.value - half, 0), abs=1e-5)


@given(scored(2, 2))
def test_a_lost_area_has_the_variance_of_a_difference(case: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    scores, labels = case
    parts = [([*scores[labels == 1, column]], [*scores[labels == 0, column]]) for column in (0, 1)]
    found = AUC.lost(*(Outputs(scores[:, column], labels) for column in (0, 1)))
    variance = sum(oracle.delong_variance(*part) for part in parts) - 2 * oracle.delong_covariance(*parts)
    assert found.value == pytest.approx(oracle.area(*parts[0]) - oracle.area(*parts[1]), abs=1e-12)
    half = Z * max(variance, 0) ** 0.5
    assert found.high == pytest.approx(min(found.value + half, 1), abs=1e-6)


def test_logits_and_their_probabilities_have_one_area() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 200)
    logits = generator.normal(size=(200, 4)) + 2 * np.eye(4)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    first, second = AUC.measure(Outputs(logits, labels)), AUC.measure(Outputs(probabilities, labels, probabilities=True))
    assert (first.value, first.low, first.high) == pytest.approx((second.value, second.low, second.high), abs=1e-12)
    # Far beyond what exp holds, order is still order.
    certain = Outputs(2000.0 * np.eye(4)[labels] + logits, labels)
    assert AUC.measure(certain).value == 1.0


@pytest.mark.parametrize("sizes", [(30, 50), (40, 25, 60)])
def test_intervals_of_areas_cover_the_true_area(sizes: tuple[int, ...]) -> None:
    """Of 400 drawn data sets about 95% of the intervals hold the area of a very large one."""
    generator = np.random.default_rng(7)
    classes = len(sizes)

    def drawn(times: int) -> Outputs:
        labels = np.repeat(np.arange(classes), [times * size for size in sizes])
        return Outputs(generator.normal(size=(len(labels), classes)) + np.eye(classes)[labels], labels, probabilities=True)

    truth = AUC.measure(drawn(2000)).value
    held = sum(found.low <= truth <= found.high for found in (AUC.measure(drawn(1)) for _ in range(400)))
    assert 0.915 < held / 400 < 0.98  # three standard errors of 400 draws about 95%


def test_a_class_of_one_sample_has_no_known_variance() -> None:
    found = AUC.measure(Outputs(np.asarray([0.1, 0.4, 0.3]), np.asarray([0, 0, 1])))
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


# --- shares -----------------------------------------------------------------------------------------------------------


@given(scored(4, 4, each=0).filter(lambda case: len(case[1]) > 0), st.integers(1, 4))
def test_top_k_sorts(case: tuple[NDArray[np.float64], NDArray[np.int64]], k: int) -> None:
    scores, labels = case
    metric = metric_of(f"top{k}")
    found = metric.measure(Outputs(scores, labels))
    hits = [oracle.among_the_first(row.tolist(), label, k) for row, label in zip(scores, labels, strict=True)]
    assert found.value == np.mean(hits)
    assert found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high
    assert metric.lost(Outputs(scores, labels), Outputs(scores, labels)).value == 0


@given(scored(4, 4, each=0).filter(lambda case: len(case[1]) > 0))
def test_top_1_of_the_family_is_top_1(case: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    family = registry.load(registry.Group.METRICS, "top")
    assert family(1).measure(Outputs(*case)) == metric_of("top1").measure(Outputs(*case))


@given(scored(3, 3, each=1))
def test_agreement_is_accuracy_with_the_float_networks_classes(case: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    scores, _ = case
    shuffled = scores[::-1]
    found = AGREEMENT.measure(Outputs(scores, reference=shuffled))
    assert found == metric_of("top1").measure(Outputs(scores, shuffled.argmax(1)))
    assert AGREEMENT.measure(Outputs(scores.argmax(1), reference=shuffled)) == found
    assert AGREEMENT.measure(Outputs(scores, reference=scores)).value == 1


def test_matched_losses_cover_the_true_loss() -> None:
    generator, held = np.random.default_rng(3), 0
    for _ in range(400):
        draws = generator.random(300)
        before, after = draws < 0.9, (draws > 0.04) & (draws < 0.92)  # 4% lost, 2% won
        found = matched_loss(before, after)
        held += found.low <= 0.02 <= found.high
    assert 0.915 < held / 400 < 0.985


# --- angles and users' functions --------------------------------------------------------------------------------------


@given(scored(2, 3, each=1), st.floats(0.5, 1e30))
def test_cosine_is_that_of_the_angle(case: tuple[NDArray[np.float64], NDArray[np.int64]], factor: float) -> None:
    scores, _ = case
    other = scores[::-1].copy()
    expected = []
    for y, f in zip(scores, other, strict=True):
        lengths = np.sqrt((y @ y) * (f @ f))
        expected.append((y @ f) / lengths if lengths > 0 else float((y @ y) == (f @ f)))
    found = COSINE.measure(Outputs(scores * factor, reference=other))
    assert found.value == pytest.approx(np.mean(expected), abs=1e-9)
    assert found.low - 1e-9 <= found.value <= found.high + 1e-9


def test_the_bootstrap_gives_the_normal_interval_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(3, 2, 2000)
    found = percentile_interval(lambda picked: float(values[picked].mean()), len(values))
    half = Z * values.std() / np.sqrt(len(values))
    # An end of the interval is the quantile of 1,000 draws: its own error is about 3% of the half width.
    assert found.value - found.low == pytest.approx(half, rel=0.12)
    assert found.high - found.value == pytest.approx(half, rel=0.12)
    assert found == percentile_interval(lambda picked: float(values[picked].mean()), len(values))


def test_a_users_function_sees_scores_and_labels() -> None:
    seen = []

    def error_rate(scores: NDArray[np.generic], labels: NDArray[np.int64]) -> float:
        seen.append((scores.shape, labels.shape))
        return float(np.mean(scores.reshape(len(scores), -1).argmax(1) != labels))

    metric = metric_of(error_rate)
    scores, labels = np.eye(3)[[0, 1, 2, 1, 0, 2]].reshape(6, 3, 1), np.asarray([0, 1, 2, 2, 0, 1])
    found = metric.measure(Outputs(scores, labels))
    assert found.value == pytest.approx(1 / 3)
    assert 0 <= found.low < found.value < found.high <= 1
    assert set(seen) == {((6, 3, 1), (6,))}
    assert len(seen) == 1 + RESAMPLES
    assert metric.title == "error_rate"
    lost = metric.lost(Outputs(scores, labels), Outputs(scores[::-1], labels))
    assert lost.value == pytest.approx(1 / 3 - np.mean(scores[::-1].reshape(6, 3).argmax(1) != labels))


# --- through networks -------------------------------------------------------------------------------------------------


def network(*, softmax: bool = False, argmax: bool = False, factor: float = 1.0) -> ld.Graph:
    generator, builder = np.random.default_rng(1), GraphBuilder("small")
    x = builder.input("x", (1, 6), FLOAT32)
    weights = builder.constant("w", (factor * generator.normal(size=(6, 3))).astype(np.float32), FLOAT32)
    y = builder.add(ops.MatMul(), [x, weights], output="y")
    if softmax:
        y = builder.add(ops.Softmax((1,)), [y], output="p")
    if argmax:
        y = builder.add(ops.ArgMax(1, False), [y], output="class")
    return builder.build([y])


X = np.random.default_rng(2).normal(size=(120, 6)).astype(np.float32)
Y = np.asarray(np.random.default_rng(3).integers(0, 3, 120), np.int64)
DATA = ld.Dataset(X, Y)


@pytest.mark.parametrize("metric", ["top1", "top2", "auc", "cosine", "agreement"])
def test_every_metric_runs_on_every_kind_of_model(metric: str) -> None:
    exact = network()
    plain = ld.accuracy(exact, DATA, metric, reference=exact)
    chosen = ld.accuracy(network(argmax=True), DATA, metric, reference=network(argmax=True))
    assert plain == chosen  # scores are those in front of the choice
    for softmax in (False, True):
        graph = network(softmax=softmax)
        bundle = ld.quantize(graph, "int8", DATA)
        found = ld.accuracy(bundle, DATA, metric, reference=graph)
        assert found == ld.accuracy(lower_bundle(bundle), DATA, metric, reference=graph)
        assert found == ld.accuracy(ld.plan(bundle, "unit-cpu"), DATA, metric, reference=graph)
        assert found.value == pytest.approx(ld.accuracy(graph, DATA, metric, reference=graph).value, abs=0.05)
        assert found.count == 120


def test_scores_in_front_of_a_quantised_choice_are_real_again() -> None:
    bundle = ld.quantize(network(argmax=True), "int8", DATA)
    found = ld.accuracy(bundle, DATA, "cosine", reference=network())
    assert found.value > 0.999
    assert found == ld.accuracy(ld.quantize(network(), "int8", DATA), DATA, "cosine", reference=network())


def test_top_1_needs_no_reference_and_is_the_default() -> None:
    assert ld.accuracy(network(), DATA) == ld.accuracy(network(), DATA, "top1") == ld.accuracy(network(), DATA, metric_of("top1"))


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "word"),
    [
        ("f1", "auc"),
        ("top", "top5"),
        ("top0", "no metric"),
        ("top4", "at most top3"),
        ("top5x", "no metric"),
        ("auc2", "no metric"),
        ("", "no metric"),
        ("5", "no metric"),
        ("cosine", "reference"),
        ("agreement", "reference"),
        (7, "7 is no metric"),
        (None, "None is no metric"),
        (lambda scores, labels: "good", "gave a str"),
        (lambda scores, labels: None, "gave a NoneType"),
        (lambda scores, labels: float("nan"), "gave nan"),
        (lambda scores, labels: True, "gave True"),
        (lambda scores, labels: scores, "gave a ndarray"),
        (lambda scores, labels: 1 / 0, "ZeroDivisionError"),
        (lambda scores: 1.0, "TypeError"),
    ],
)
def test_what_is_no_metric_here_is_one_error(metric: object, word: str) -> None:
    with pytest.raises(LeptonError, match=word):
        ld.accuracy(network(), DATA, metric)  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["top1", "top2", "auc", lambda scores, labels: 1.0])
def test_labels_are_needed(metric: object) -> None:
    with pytest.raises(InvalidDataError, match="labels"):
        ld.accuracy(network(), ld.Dataset(X), metric)  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["top1", "top2", "auc"])
@pytest.mark.parametrize("wrong", [-1, 3, 1 << 40])
def test_labels_name_a_class(metric: str, wrong: int) -> None:
    labels = Y.copy()
    labels[5] = wrong
    with pytest.raises(InvalidDataError, match=str(wrong)):
        ld.accuracy(network(), ld.Dataset(X, labels), metric)


def test_areas_need_every_class() -> None:
    with pytest.raises(InvalidDataError, match="all samples are of class 1"):
        ld.accuracy(network(), ld.Dataset(X, np.ones_like(Y)), "auc")
    with pytest.raises(InvalidDataError, match="no sample of class 2"):
        ld.accuracy(network(), ld.Dataset(X, Y % 2), "auc")


@pytest.mark.parametrize("metric", ["top1", "top2", "auc", "cosine", "agreement", lambda scores, labels: 1.0])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_outputs_that_are_no_numbers_are_refused(metric: object) -> None:
    broken, far = network(softmax=True, factor=1e38), ld.Dataset(1e3 * X, Y)  # scores overflow, and a Softmax of them is NaN
    with pytest.raises(InvalidDataError, match=r"NaN for 120 of 120 samples"):
        ld.accuracy(broken, far, metric, reference=network())  # type: ignore[arg-type]
    if isinstance(metric, str) and metric_of(metric).reference:
        with pytest.raises(InvalidDataError, match="reference: NaN"):
            ld.accuracy(network(), far, metric, reference=broken)


@pytest.mark.parametrize("metric", ["auc", "cosine"])
def test_infinite_outputs_are_refused_where_values_count(metric: str) -> None:
    scores = np.asarray([[1.0, np.inf], [0.0, 1.0]])
    with pytest.raises(InvalidDataError, match="infinite"):
        metric_of(metric).measure(Outputs(scores, np.asarray([0, 1]), scores))
    assert metric_of("top1").measure(Outputs(scores, np.asarray([1, 1]))).value == 1


def test_one_real_score_names_no_class() -> None:
    with pytest.raises(InvalidDataError, match="auc"):
        metric_of("top1").measure(Outputs(np.asarray([[0.2], [0.7]]), np.asarray([0, 1])))


def test_references_of_another_shape_are_refused() -> None:
    for metric in (COSINE, AGREEMENT):
        with pytest.raises(InvalidDataError, match="the network gives 2"):
            metric.measure(Outputs(np.zeros((4, 2)), reference=np.zeros((4, 3))))


def test_a_bootstrap_of_one_sample_is_refused() -> None:
    with pytest.raises(InvalidDataError, match="two samples"):
        COSINE.measure(Outputs(np.ones((1, 2)), reference=np.ones((1, 2))))


def test_every_registered_metric_is_one() -> None:
    assert registry.names(registry.Group.METRICS) == ("agreement", "auc", "cosine", "top", "top1")
    for name in registry.names(registry.Group.METRICS):
        found = metric_of("top5" if name == "top" else name)
        assert isinstance(found, Metric)
