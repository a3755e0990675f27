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
    "Expand": (1,),
    "Gemm": (1, 2),
    "Pad": (1, 2, 3),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceSum": (1,),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
}

_INTEGERS = ("int8", "int16", "uint8", "uint16", "uint32")
_ORDERS = ("greater", "greater_equal", "less", "less_equal")
_LOGIC = ("2d", "3d", "4d", "_bcast3v1d", "_bcast3v2d", "_bcast4v2d", "_bcast4v3d", "_bcast4v4d")
# What a refusal says, and the cases that must meet it.
REFUSED: dict[str, tuple[str, ...]] = {
    r"input: holds uint64, only real numbers, integers of up to 32 bits, int64 and bool can be fed\)": (
        *(f"test_{operator}_uint64" for operator in ("add", "div", "mul", "sub", "min", "max", "equal", *_ORDERS)),
        *(f"test_{operator}_equal_uint64_expanded" for operator in ("greater", "less")),
        "test_pow_types_float32_uint64",
    ),
    r"'\w+' \(input: holds string, only real numbers": ("test_equal_string", "test_equal_string_broadcast"),
    "pads in mode 'wrap'": ("test_wrap_pad",),
    r"is no tensor but (sequence|optional)_type": ("test_identity_sequence", "test_identity_opt"),
    r"the impossible shape \[(2, )?0": (
        "test_reshape_allowzero_reordered",
        *(f"test_reduce_{kind}_empty_set" for kind in ("max", "min", "sum")),
        *(f"test_reduce_{kind}_empty_set_expanded" for kind in ("l1", "log_sum", "sum_square")),
        "test_reduce_max_empty_set_bool",
        "test_reduce_sum_empty_set_non_reduced_axis_zero",
        "test_split_zero_size_splits_opset13",
        "test_split_zero_size_splits_opset18",
    ),
    r"Slice 'y': takes no element of axis 1 of \[20, 10, 5\]": ("test_slice_start_out_of_bounds",),
    r"\((Div|Mul|Sub|Pow): computes on integers\)": (
        *(f"test_{operator}_{kind}" for operator in ("div", "mul", "sub") for kind in _INTEGERS),
        "test_div_int32_trunc",
        "test_pow_types_int32_int32",
        "test_pow_types_int64_int64",
    ),
    r"\(Pow: mixes reals and integers\)": (
        *(f"test_pow_types_float32_{kind}" for kind in ("int32", "int64", "uint32")),
        *(f"test_pow_types_{kind}_float32" for kind in ("int32", "int64")),
    ),
    r"uses operator set [17]; convert it": (
        *(f"test_{operator}{kind}" for operator in ("and", "or") for kind in _LOGIC),
        *(f"test_not_{rank}d" for rank in (2, 3, 4)),
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
# Kinds of value that NumPy alone does not have, and versions of logic that predate what is read.
_NOT_FOLDED = {
    "test_identity_sequence",
    "test_identity_opt",
    *(f"test_not_{rank}d" for rank in (2, 3, 4)),
    *(f"test_{operator}{kind}" for operator in ("and", "or") for kind in _LOGIC),
}
# Most cases of Cast have types that nothing here reads; models of our own cover it.
_WITHOUT_CASES = {"Cast"}


def _cases(operators: set[str]) -> dict[str, object]:
    return {case.name: case for case in _ALL if {node.op_type for node in case.model.graph.node} <= operators}


CASES = _cases(set(OPERATORS) - _WITHOUT_CASES)
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


def _inferring(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the mean and deviation that LayerNormalization hands out for training."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    if model.graph.node[0].op_type == "LayerNormalization":
        del model.graph.output[1:], model.graph.node[0].output[1:]
    return model


@pytest.mark.parametrize("name", PASSING)
def test_case_gives_the_shipped_output(name: str, save: Callable[[onnx.ModelProto], Path]) -> None:
    case = CASES[name]
    model = _inferring(case.model)
    for values, expected in case.data_sets:
        bound, fed = _parts(case, values)
        outputs = semantics.run(load_model(save(model), bind=bound), fed)
        assert list(outputs) == [entry.name for entry in model.graph.output]
        for found, wanted in zip(outputs.values(), expected[: len(outputs)], strict=True):
            assert found.shape == wanted.shape
            if wanted.dtype.kind in "iub":
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
    assert counts["passing"] >= 350, counts
    assert counts["refused"] <= 85, counts
    assert counts["folded"] >= 240, counts
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
    assert set(OPERATORS) - exercised == {"And", "Not", *_WITHOUT_CASES}
