"""hls4ml, da4ml or NNgen on one dense network, run in their environment; prints one line of JSON.

    python -P fpga_theirs.py TOOL FOLDER [PARALLEL]     (-P: a file beside this one has the name of a package)

FOLDER holds ``net.onnx``, dense layers with ReLU between, and ``data.npz`` with test rows ``x`` and rows ``calibration``. What a
tool writes goes to FOLDER/TOOL, its scores of the test rows to ``scores.npy`` there, by its own bit-exact emulation.

hls4ml and da4ml get the same fixed-point numbers: weights of a layer in 8 bits, sums exact, a layer's results in 8 bits,
rounded to nearest; the point of each lies as far left as the calibration rows allow. NNgen quantises by itself, from the
same rows. Seconds run from the model's file to the artefact, imports not counted.

hls4ml reads ONNX without Gemm, so that a product and a sum stand for it; da4ml reads none, so that the network is traced
as NumPy; NNgen's reader needs an operation between the graph's input and the first Gemm, so that a Flatten is put there.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import math
import os
import re
import sys
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

BITS = 8
SHOWN = 64  # rows that da4ml's bench is given


def integer_bits(values: np.ndarray) -> int:
    """Bits left of the point, the sign's not counted, that hold all values."""
    return math.floor(math.log2(np.abs(values).max())) + 1


def rounded(values: np.ndarray, fraction: int, bits: int | None = None) -> np.ndarray:
    """The nearest fixed-point numbers, within so many bits."""
    found = np.floor(values * 2.0**fraction + 0.5)
    if bits is not None:
        found = np.clip(found, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return found / 2.0**fraction


class Network:
    """Layers of a model, and the fixed-point formats that calibration rows ask for."""

    def __init__(self, path: Path, calibration: np.ndarray) -> None:
        self.model = onnx.load(path)
        values = {entry.name: numpy_helper.to_array(entry).astype(float) for entry in self.model.graph.initializer}
        dense = [node for node in self.model.graph.node if node.op_type == "Gemm"]
        exact = [(values[node.input[1]].T, values[node.input[2]]) for node in dense]
        hidden = calibration.astype(float)
        self.ranges = [integer_bits(hidden)]
        for index, (weights, bias) in enumerate(exact):
            hidden = hidden @ weights + bias
            hidden = hidden if index == len(exact) - 1 else np.maximum(hidden, 0)
            self.ranges.append(integer_bits(hidden))
        # Results of a ReLU need no sign: all bits are the number's.
        last = len(exact)
        self.fractions = [BITS - (index in (0, last)) - bits for index, bits in enumerate(self.ranges)]
        self.weight_bits = [integer_bits(weights) for weights, _ in exact]
        self.sums = [BITS - 1 - bits + fraction for bits, fraction in zip(self.weight_bits, self.fractions, strict=False)]
        self.layers = [
            (rounded(weights, BITS - 1 - bits, BITS), rounded(bias, fraction))
            for (weights, bias), bits, fraction in zip(exact, self.weight_bits, self.sums, strict=True)
        ]


def da4ml(folder: Path, network: Network, data: dict[str, np.ndarray]) -> dict[str, object]:
    from da4ml.codegen import RTLModel
    from da4ml.trace import FixedVariableArray, HWConfig, comb_trace
    from da4ml.trace.ops import quantize, relu

    begin = time.perf_counter()
    kif = [np.full(data["x"].shape[1], bits, np.int8) for bits in (1, network.ranges[0], network.fractions[0])]
    inputs = FixedVariableArray.from_kif(*kif, HWConfig(1, -1, -1), 0, {"hard_dc": 2})
    value = inputs
    for index, (weights, bias) in enumerate(network.layers, 1):
        value = value @ weights + bias
        whole, fraction = np.array(network.ranges[index]), np.array(network.fractions[index])
        if index < len(network.layers):
            value = relu(value, whole, fraction, "RND")
        else:
            value = quantize(value, 1, whole, fraction, "WRAP", "RND")
    logic = comb_trace(inputs, value)
    written = RTLModel(logic, "model", folder, "verilog", latency_cutoff=5, print_latency=False)
    written.write()
    seconds = time.perf_counter() - begin
    rows = rounded(data["x"].astype(float), network.fractions[0], BITS)
    scores = logic.predict(rows)
    np.save(folder / "scores.npy", scores)
    header = (folder / "src" / "model_wrapper.v").read_text()
    widths = [int(found) + 1 for found in re.findall(r"put \[(\d+):0\] model_", header)]
    for name, values, width, fraction in (
        ("stimulus", rows, widths[0], network.fractions[0]),
        ("expected", scores, widths[1], network.fractions[-1]),
    ):
        lane = width // values.shape[1]
        numbers = (values[:SHOWN] * 2.0**fraction).astype(int) & ((1 << lane) - 1)
        words = [sum(int(number) << lane * place for place, number in enumerate(row)) for row in numbers]
        (folder / f"{name}.hex").write_text("".join(f"{word:0{-(-width // 4)}x}\n" for word in words))
    sources = [f"src/{path.relative_to(folder / 'src')}" for path in sorted((folder / "src").rglob("*.v"))]
    estimate = json.loads((folder / "metadata.json").read_text())
    return {
        "seconds": seconds,
        "sources": sources,
        "top": "model",
        "widths": widths,
        "predicted": {"LUT": estimate["cost"], "FF": estimate["reg_bits"]},
    }


def hls4ml(folder: Path, network: Network, data: dict[str, np.ndarray]) -> dict[str, object]:
    import hls4ml as tool

    graph, nodes, weights, dense = network.model.graph, [], [], []
    begin = time.perf_counter()
    for node in graph.node:
        if node.op_type != "Gemm":
            nodes.append(node)
            continue
        matrix, bias = network.layers[len(dense)]
        names = [f"{node.name}_{part}" for part in ("weight", "bias", "product")]
        weights += [
            numpy_helper.from_array(array.astype(np.float32), name) for array, name in ((matrix, names[0]), (bias, names[1]))
        ]
        nodes.append(helper.make_node("MatMul", [node.input[0], names[0]], [names[2]], node.name))
        nodes.append(helper.make_node("Add", [names[2], names[1]], [node.output[0]], f"{node.name}_sum"))
        dense.append(node.name)
    ends = [(graph.input[0].name, data["x"].shape[1]), (graph.output[0].name, network.layers[-1][1].size)]
    shapes = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size]) for name, size in ends]
    split = helper.make_model(
        helper.make_graph(nodes, "net", shapes[:1], shapes[1:], weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    split = onnx.shape_inference.infer_shapes(split)
    split.graph.value_info.extend(helper.make_tensor_value_info(w.name, onnx.TensorProto.FLOAT, list(w.dims)) for w in weights)
    settings = tool.utils.config_from_onnx_model(split, granularity="name", backend="Vitis")
    chosen = settings["LayerName"]
    chosen[graph.input[0].name]["Precision"]["result"] = f"fixed<{BITS},{network.ranges[0] + 1},RND,SAT>"
    for name, whole, (_, bias), fraction in zip(dense, network.weight_bits, network.layers, network.sums, strict=True):
        left = integer_bits(bias) + 1
        chosen[name]["Precision"].update(weight=f"fixed<{BITS},{whole + 1}>", bias=f"fixed<{left + fraction},{left}>")
    activations = [node.name for node in graph.node if node.op_type == "Relu"]
    for name, whole in zip(activations, network.ranges[1:-1], strict=True):
        chosen[name]["Precision"]["result"] = f"ufixed<{BITS},{whole},RND,SAT>"
    model = tool.converters.convert_from_onnx_model(
        split, hls_config=settings, output_dir=str(folder), project_name="mlp", backend="Vitis", io_type="io_parallel"
    )
    model.write()
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    model.compile()
    compiled = time.perf_counter() - begin
    scores = model.predict(np.ascontiguousarray(data["x"], np.float32)).astype(float)
    # Its last sums leave as they are; 8 bits are what the others give.
    np.save(folder / "scores.npy", rounded(scores, network.fractions[-1], BITS))
    return {"seconds": seconds, "compile": compiled}


def nngen(folder: Path, network: Network, data: dict[str, np.ndarray], parallel: int) -> dict[str, object]:
    import nngen as ng

    begin = time.perf_counter()
    model, source = network.model, network.model.graph.input[0].name
    for end in (model.graph.input[0], model.graph.output[0]):
        end.type.tensor_type.shape.dim[0].dim_value = 1
    model.graph.node[0].input[0] = "flat"
    model.graph.node.insert(0, helper.make_node("Flatten", [source], ["flat"], "flat", axis=1))
    onnx.save(model, folder / "flat.onnx")
    narrow, wide = ng.int8, ng.int32
    outputs, inputs, _, _, operators = ng.from_onnx(
        str(folder / "flat.onnx"),
        value_dtypes={},
        default_placeholder_dtype=narrow,
        default_variable_dtype=narrow,
        default_constant_dtype=narrow,
        default_operator_dtype=narrow,
        default_scale_dtype=wide,
        default_bias_dtype=wide,
    )
    (output,), (placeholder,) = outputs.values(), inputs.values()
    most = 2 ** (BITS - 1) - 1
    scale = most / np.abs(data["calibration"]).max()

    def integers(rows: np.ndarray) -> np.ndarray:
        return np.clip(np.round(rows * scale), -most, most).astype(np.int64)

    samples = {source: lambda node, count: integers(data["calibration"])}
    ng.quantize([output], {source: scale}, input_generators=samples, num_samples=len(data["calibration"]))
    for operator in operators.values():
        if isinstance(operator, ng.matmul):
            operator.attribute(par_left_col=parallel, par_out_col=parallel)
    module = ng.to_veriloggen([output], "mlp", silent=True)
    module.to_verilog(str(folder / "mlp.v"))
    seconds = time.perf_counter() - begin
    scores = [ng.eval([output], **{source: integers(row[None])})[0][0] for row in data["x"]]
    np.save(folder / "scores.npy", np.array(scores) / output.scale_factor)
    first = integers(data["x"][:1])
    cycles, equal = nngen_cycles(module, output, placeholder, first, np.array(scores[:1]), parallel)
    return {"seconds": seconds, "sources": ["mlp.v"], "top": "mlp", "cycles": cycles, "equal": equal}


def nngen_cycles(
    module: object, output: object, placeholder: object, values: np.ndarray, expected: np.ndarray, parallel: int
) -> tuple[list[int], int]:
    """Cycles of three passes in Icarus Verilog, from the write to the start register to the busy register read as 0, and outputs
    that are right after them; the memory behind its bus is veriloggen's model as it comes."""
    import nngen as ng
    from veriloggen import Delay, Module, Not, Seq, Systask, simulation
    from veriloggen import thread as vthread
    from veriloggen.types import axi

    line, width = 64, 32
    parameters = ng.export_ndarray([output], line)

    def after(address: int, size: int) -> int:
        return -(-(address + size) // line) * line

    variables = after(placeholder.addr, placeholder.memory_size)
    check = after(variables, len(parameters))
    scratch = after(check, output.memory_size)
    image = np.zeros(1 << 18, np.int64)
    padding = max(width // BITS, parallel)
    axi.set_memory(image, values, width, BITS, placeholder.addr, padding)
    axi.set_memory(image, parameters, width, 8, variables)
    axi.set_memory(image, expected, width, BITS, check, padding)
    bench = Module("test")
    bench.copy_params(module)
    ports = bench.copy_sim_ports(module)
    clock, reset = ports["CLK"], bench.Wire("RST")
    reset.assign(Not(ports["RESETN"]))
    memory = axi.AxiMemoryModel(
        bench, "memory", clock, reset, datawidth=width, memimg=image, memimg_name="memory.out", memimg_datawidth=width
    )
    memory.connect(ports, "maxi")
    control = vthread.AXIMLite(bench, "control", clock, reset, noio=True)
    control.connect(ports, "saxi")
    now = bench.Reg("now", 32, initval=0)
    Seq(bench, "seq", clock, reset)(now.inc())

    def passes() -> None:
        ng.sim.set_global_addrs(control, scratch)
        for _ in range(3):
            begun = now.value
            ng.sim.start(control)
            ng.sim.wait(control)
            ended = now.value
            print("cycles", ended - begun)  # no f-string: this becomes a state machine
        for index in range(5):
            found = memory.read_word(index, output.addr, 8)
            asked = memory.read_word(index, check, 8)
            if found == asked:
                print("equal")
        vthread.finish()

    vthread.Thread(bench, "passes", clock, reset, passes).start()
    bench.Instance(module, "uut", params=bench.connect_params(module), ports=bench.connect_ports(module))
    simulation.setup_clock(bench, clock, hperiod=5)
    begin = simulation.setup_reset(bench, ports["RESETN"], bench.make_reset(), period=100, polarity="low")
    begin.add(Delay(10_000_000), Systask("finish"))
    printed = simulation.Simulator(bench, sim="iverilog").run(outputfile="bench.out")
    return [int(found) for found in re.findall(r"cycles\s+(\d+)", printed)], printed.count("equal")


def main() -> None:
    tool, folder = sys.argv[1], Path(sys.argv[2]).resolve()
    data = dict(np.load(folder / "data.npz"))
    own = folder / "-".join(sys.argv[1:2] + sys.argv[3:])
    own.mkdir(parents=True, exist_ok=True)
    os.chdir(own)  # some of them write where they stand
    with contextlib.redirect_stdout(io.StringIO()):
        begin = time.perf_counter()
        network = Network(folder / "net.onnx", data["calibration"])
        read = time.perf_counter() - begin
        if tool == "nngen":
            found = nngen(own, network, data, int(sys.argv[3]))
        else:
            found = {"da4ml": da4ml, "hls4ml": hls4ml}[tool](own, network, data)
    found["seconds"] += read
    print("RESULT" + json.dumps({**found, "version": importlib.metadata.version(tool)}))


if __name__ == "__main__":
    main()
