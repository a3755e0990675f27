"""The operator cases that ONNX ships for backends: every case of every supported operator passes or is refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from lepton_dse.errors import InvalidModelError
from lepton_dse.importers import load_model
from lepton_dse.importers.onnx.folding import FOLDABLE
from lepton_dse.importers.onnx.importer import OPERATORS
from lepton_dse.importers.onnx.structure import OPSETS
from lepton_dse.ir import semantics

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the generators divide by zero on purpose
    from onnx.backend.test.loader import load_node_model_tests

    _ALL = load_node_model_tests()

# Inputs that an operator needs as constants; the cases feed them.
BOUND = {
    "BatchNormalization": (1, 2, 3, 4),
    "Clip": (1, 2),
    "Dropout": (1, 2),
    "Gemm": (1, 2),
    "Pad": (1, 2, 3),
    "ReduceMean": (1,),
    "Reshape": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
}

_INTEGERS = ("int8", "int16", "uint8", "uint16", "uint32")
_MEANS = ("default_axes_keepdims", "do_not_keepdims", "keepdims", "negative_axes_keepdims")
# What a refusal says, and the cases that must meet it.
REFUSED: dict[str, tuple[str, ...]] = {
    r"'\w+' \(input: holds uint64, only real numbers and integers of up to 32 bits can be fed\)": tuple(
        f"test_{operator}_uint64" for operator in ("add", "div", "mul", "sub")
    ),
    "pads in mode 'wrap'": ("test_wrap_pad",),
    r"is no tensor but (sequence|optional)_type": ("test_identity_sequence", "test_identity_opt"),
    r"the impossible shape \[0, 3, 4\]": ("test_reshape_allowzero_reordered",),
    r"(divides|multiplies|subtracts) two tensors that both vary": (
        *(
            f"test_{operator}{variant}"
            for operator in ("div", "mul", "sub")
            for variant in ("", "_bcast", "_example", *(f"_{kind}" for kind in _INTEGERS))
        ),
        "test_div_int32_trunc",
    ),
    "averages over other axes than all spatial ones": tuple(
        f"test_reduce_mean_{variant}_{data}" for variant in _MEANS for data in ("example", "random")
    ),
    r"\(BatchNormalization: more than its first output is used\)": (
        "test_batchnorm_epsilon_training_mode",
        "test_batchnorm_example_training_mode",
    ),
    r"\(Dropout: more than its first output is used\)": (
        "test_dropout_default_mask",
        "test_dropout_default_mask_ratio",
        "test_training_dropout_default_mask",
        "test_training_dropout_mask",
        "test_training_dropout_zero_ratio_mask",
    ),
    r"\(Dropout: is in training mode\)": (
        "test_training_dropout",
        "test_training_dropout_default",
        "test_training_dropout_zero_ratio",
    ),
    r"\(MaxPool: more than its first output is used\)": (
        "test_maxpool_with_argmax_2d_precomputed_pads",
        "test_maxpool_with_argmax_2d_precomputed_strides",
    ),
}
_REFUSALS = {name: why for why, names in REFUSED.items() for name in names}
# Kinds of value that NumPy alone does not have, and a version of Not that predates what is read.
_NOT_FOLDED = {"test_identity_sequence", "test_identity_opt", "test_not_2d", "test_not_3d", "test_not_4d"}


def _cases(operators: set[str]) -> dict[str, object]:
    return {case.name: case for case in _ALL if {node.op_type for node in case.model.graph.node} <= operators}


CASES = _cases(set(OPERATORS))
PASSING = sorted(set(CASES) - set(_REFUSALS))
FOLDED = {
    name: case
    for name, case in _cases(set(FOLDABLE) - {"Cast"} | {"Constant", "ConstantOfShape", "Shape", "Size"}).items()
    if name not in _NOT_FOLDED
}


def _parts(case, values) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Values to bind and values to feed."""
    named = dict(zip((entry.name for entry in case.model.graph.input), values, strict=True))
    bound = {
        node.input[index] for node in case.model.graph.node for index in BOUND.get(node.op_type, ()) if index < len(node.input)
    }
    return (
        {name: value for name, value in named.items() if name in bound},
        {name: value for name, value in named.items() if name not in bound},
    )


@pytest.mark.parametrize("name", PASSING)
def test_case_gives_the_shipped_output(name: str, save: Callable[[onnx.ModelProto], Path]) -> None:
    case = CASES[name]
    for values, expected in case.data_sets:
        bound, fed = _parts(case, values)
        outputs = semantics.run(load_model(save(case.model), bind=bound), fed)
        assert list(outputs) == [entry.name for entry in case.model.graph.output]
        for found, wanted in zip(outputs.values(), expected, strict=True):
            assert found.shape == wanted.shape
            if wanted.dtype.kind in "iu":
                np.testing.assert_array_equal(found, wanted)
            else:
                np.testing.assert_allclose(found.astype(np.float64), wanted.astype(np.float64), rtol=case.rtol, atol=case.atol)


@pytest.mark.parametrize("name", sorted(_REFUSALS))
def test_case_beyond_scope_is_refused_with_its_reason(name: str, save: Callable[[onnx.ModelProto], Path]) -> None:
    case = CASES[name]
    bound, _ = _parts(case, case.data_sets[0][0])
    with pytest.raises(InvalidModelError, match=_REFUSALS[name]) as refusal:
        load_model(save(case.model), bind=bound)
    assert "model.onnx: " in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", sorted(FOLDED))
def test_case_on_constants_is_folded(name: str, save: Callable[[onnx.ModelProto], Path]) -> None:
    case = FOLDED[name]
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    # A graph needs an input; one that passes straight through leaves the rest to constants.
    model.graph.input.append(helper.make_tensor_value_info("through", onnx.TensorProto.FLOAT, [1]))
    model.graph.output.append(helper.make_tensor_value_info("through", onnx.TensorProto.FLOAT, [1]))
    for values, expected in case.data_sets:
        named = dict(zip((entry.name for entry in case.model.graph.input), values, strict=True))
        graph = load_model(save(model), bind=named)
        assert not graph.ops
        for entry, wanted in zip(case.model.graph.output, expected, strict=True):
            found = graph.constants[entry.name]
            assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
            np.testing.assert_allclose(found, wanted, rtol=case.rtol, atol=case.atol)


def test_counts() -> None:
    counts = {"passing": len(PASSING), "refused": len(_REFUSALS), "folded": len(FOLDED)}
    assert counts["passing"] >= 180, counts
    assert counts["refused"] <= 53, counts
    assert counts["folded"] >= 220, counts
    assert set(_REFUSALS) <= set(CASES)


def test_no_operator_has_a_later_version_than_those_that_were_read() -> None:
    later = {
        schema.name: schema.since_version
        for schema in onnx.defs.get_all_schemas()
        if schema.domain == "" and schema.name in {*OPERATORS, *FOLDABLE} and schema.since_version >= OPSETS.stop
    }
    assert not later


def test_every_operator_has_a_case() -> None:
    exercised = {node.op_type for name in PASSING for node in CASES[name].model.graph.node}
    # The cases of these multiply, divide or average in ways that are refused; models of our own cover the rest.
    assert set(OPERATORS) - exercised == {"Div", "Mul", "ReduceMean", "Sub"}
