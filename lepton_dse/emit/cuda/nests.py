"""CUDA text of kernels with a thread for each element or a warp for each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

from lepton_dse.emit.cuda.places import Places
from lepton_dse.emit.cuda.values import ctype, literal, pointwise, real_value, value_type
from lepton_dse.emit.writer import Writer
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.ir.loops import Affine
from lepton_dse.ir.ops import Op
from lepton_dse.schedule.gpu import Edge, Kernel, Nest, Read, Subscript

__all__ = ["write_nest"]


def write_nest(out: Writer, identifier: str, kernel: Kernel, graph: LoweredGraph, places: Places) -> None:
    """Append one kernel.

    Raises
    ------
    LeptonError
        If there is no rule for one of its operations.
    """
    nest = kernel.work
    assert isinstance(nest, Nest), "dispatched by kind"
    parameters = "[[maybe_unused]] const unsigned char* constants, unsigned char* arena"  # not every kernel reads constants
    with out.block(f"LEPTON_KERNEL({nest.threads}) {identifier}({parameters}) {{"):
        context = _Context(out, kernel, nest, graph, places)
        context.begin()
        if kernel.reordered:
            context.store(context.read(0, nest.reads[0]))
        elif nest.rows:
            _row(context)
        else:
            _element(context)


def _text(index: Affine) -> str:
    parts = [name if coefficient == 1 else f"{name} * {coefficient}" for name, coefficient in index.terms]
    if index.offset or not parts:
        parts.append(str(index.offset))
    return " + ".join(parts).replace("+ -", "- ")


@dataclass
class _Context:
    """What the rules write with."""

    out: Writer
    kernel: Kernel
    nest: Nest
    graph: LoweredGraph
    places: Places
    active: str = "inside"

    @property
    def head(self) -> Op:
        return self.kernel.ops[0]

    def begin(self) -> None:
        """The number of the thread or the warp, whether it has work, and the loops that follow from it."""
        nest, out = self.nest, self.out
        if nest.rows:
            out.line(f"const int number = static_cast<int>(blockIdx.x * {nest.threads // 32} + threadIdx.x / 32);")
            out.line("const int lane = static_cast<int>(threadIdx.x % 32);")
        else:
            out.line(f"const int number = static_cast<int>(blockIdx.x * {nest.threads} + threadIdx.x);")
        out.line(f"const bool inside = number < {nest.results};")
        out.line("const int counted = inside ? number : 0;")
        steps = [1] * len(nest.extents)
        for place in range(len(nest.extents) - 2, -1, -1):
            steps[place] = steps[place + 1] * nest.extents[place + 1]
        for name, place, divisor, modulus in nest.coordinates:
            step = steps[place] * divisor if nest.extents else 1
            out.line(f"[[maybe_unused]] const int {name} = counted / {step} % {modulus};")

    def place(self, subscripts: Sequence[Subscript]) -> tuple[str, str]:
        """Element that subscripts mean, and the condition under which there is one."""
        terms, conditions = [], []
        for subscript in subscripts:
            text, extent = _text(subscript.index), subscript.extent
            if subscript.edge is Edge.OUTSIDE:
                conditions.append(f"{text} >= 0 && {text} < {extent}")
            elif subscript.edge is Edge.CLAMP:
                text = f"lepton::clamp({text}, 0, {extent - 1})"
            elif subscript.edge is Edge.REFLECT:
                text = f"({extent - 1} - abs({extent - 1} - abs({text})))"
            if text != "0":
                terms.append(f"({text}) * {subscript.stride}")
        return " + ".join(terms) or "0", " && ".join(conditions)

    def read(self, number: int, read: Read, at: tuple[str, str] | None = None) -> str:
        """Read an operand; the name of its value, of which `is<number>` says whether it was there."""
        source = read.source
        position, condition = at or self.place(read.subscripts)
        kind = ctype(source.buffer.tensor.format)
        active = f"{self.active} && {condition}" if condition else self.active
        pointer = f"reinterpret_cast<const {kind}*>({self.places.reading(source.buffer.owner)})"
        self.out.line(f"[[maybe_unused]] const bool is{number} = {active};")
        self.out.line(
            f"const {kind} raw{number} = lepton::load({pointer} + (is{number} ? {position} : 0), is{number}, {kind}());"
        )
        self.out.line(f"const {value_type(source)} in{number} = {real_value(source, f'raw{number}')};")
        return f"in{number}"

    def store(self, value: str, active: str = "") -> None:
        """What the operations behind the head make of its result, and where it goes."""
        number = len(self.head.inputs) if self.kernel.ops else 0
        if self.kernel.ops and isinstance(self.head.attributes, ops.LocalResponseNorm):
            number += 1
        for index, (before, op) in enumerate(pairwise(self.kernel.ops)):
            values = []
            for name in op.inputs:
                if name == before.output:
                    values.append(value)
                    continue
                read = self.nest.reads[number]
                at = _entry(op, value) if read.indirect else None
                values.append(self.read(number, read, at))
                number += 1
            value = self.computed(op, values, f"next{index}")
        kind = ctype(self.kernel.result.tensor.format)
        position, _ = self.place(self.nest.write)
        pointer = f"reinterpret_cast<{kind}*>({self.places.writing(self.kernel.result.owner)})"
        active = active or self.active
        condition = f"({active})" if "&&" in active else active
        self.out.line(f"lepton::store({pointer} + ({condition} ? {position} : 0), {_converted(value, kind)}, {active});")

    def computed(self, op: Op, values: Sequence[str], name: str) -> str:
        """A pointwise operation's result, in a variable."""
        tensors = [
            self.kernel.operands[each].buffer.tensor if each in self.kernel.operands else self.graph.tensors[each]
            for each in op.inputs
        ]
        output = self.graph.tensors[op.output]
        kind = ctype(output.format)
        self.out.line(f"const {kind} {name} = {_converted(pointwise(op, values, tensors, output), kind)};")
        return name

    def along(self, stack: ExitStack) -> None:
        """Open the inner loops."""
        for name, extent in self.nest.inner:
            stack.enter_context(self.out.block(f"for (int {name} = 0; {name} < {extent}; ++{name}) {{"))


def _converted(value: str, kind: str) -> str:
    return value if kind.startswith("lepton::") else f"static_cast<{kind}>({value})"


def _entry(op: Op, value: str) -> tuple[str, str]:
    """Where a table's entry lies."""
    assert isinstance(op.attributes, ops.Lookup), "no other operation behind a head reads where a value says"
    return f"static_cast<int>({value}) - ({op.attributes.least})", ""


# --- a thread for each element ------------------------------------------------------------------------------------


def _element(context: _Context) -> None:
    rule = _HEADS.get(type(context.head.attributes), _pointwise_head)
    context.store(rule(context))


def _pointwise_head(context: _Context) -> str:
    values: list[str] = []
    for position, read in enumerate(context.nest.reads[: len(context.head.inputs)]):
        at = _entry(context.head, values[0]) if read.indirect else None
        values.append(context.read(position, read, at))
    return context.computed(context.head, values, "result")


def _contraction(context: _Context) -> str:
    head, nest, out = context.head, context.nest, context.out
    kind = ctype(context.graph.tensors[head.output].format)
    out.line(f"{kind} result = {context.read(2, nest.reads[2]) if len(head.inputs) > 2 else '0'};")
    pad = head.attributes.pad_value if isinstance(head.attributes, ops.Conv) else 0
    with ExitStack() as stack:
        context.along(stack)
        x, w = context.read(0, nest.reads[0]), context.read(1, nest.reads[1])
        left = f"(is0 ? static_cast<{kind}>({x}) : {literal(pad, kind)})"
        out.line(f"result += {left} * static_cast<{kind}>({w});")
    return "result"


def _max_pool(context: _Context) -> str:
    kind = ctype(context.graph.tensors[context.head.output].format)
    form = context.graph.tensors[context.head.output].format
    least = "-lepton::infinity()" if form.is_float else literal(int(form.minimum), kind)
    context.out.line(f"{kind} result = {least};")
    with ExitStack() as stack:
        context.along(stack)
        value = context.read(0, context.nest.reads[0])
        context.out.line(f"result = is0 ? lepton::greatest_of(result, {value}) : result;")
    return "result"


def _sum_pool(context: _Context) -> str:
    attributes = context.head.attributes
    assert isinstance(attributes, ops.SumPool), "dispatched by kind"
    kind = ctype(context.graph.tensors[context.head.output].format)
    context.out.line(f"{kind} result = 0;")
    with ExitStack() as stack:
        context.along(stack)
        value = context.read(0, context.nest.reads[0])
        context.out.line(f"result += is0 ? static_cast<{kind}>({value}) - ({attributes.offset}) : 0;")
    return "result"


def _average_pool(context: _Context) -> str:
    attributes, out = context.head.attributes, context.out
    assert isinstance(attributes, ops.AveragePool), "dispatched by kind"
    window = attributes.window
    overhang = attributes.overhang or (0,) * len(window.kernel)
    out.lines(["float result = 0.0f;", "int taps = 0;"])
    with ExitStack() as stack:
        context.along(stack)
        value = context.read(0, context.nest.reads[0])
        out.line(f"result += is0 ? {value} : 0.0f;")
        counted = "is0"
        if attributes.count_include_pad:
            conditions = []
            for axis, subscript in enumerate(context.nest.reads[0].subscripts[2:]):
                end = subscript.extent + window.pads_end[axis] - overhang[axis]
                conditions.append(f"{_text(subscript.index)} < {end}")
            counted = " && ".join(conditions)
        out.line(f"taps += ({counted}) ? 1 : 0;")
    out.line("const float mean = result / static_cast<float>(taps > 0 ? taps : 1);")
    return "mean"


def _local_response(context: _Context) -> str:
    a = context.head.attributes
    assert isinstance(a, ops.LocalResponseNorm), "dispatched by kind"
    context.out.line("float squares = 0.0f;")
    with ExitStack() as stack:
        context.along(stack)
        value = context.read(0, context.nest.reads[0])
        context.out.line(f"squares += is0 ? {value} * {value} : 0.0f;")
    centre = context.read(1, context.nest.reads[1])
    scale = f"{literal(a.bias, 'float')} + {literal(a.alpha / a.size, 'float')} * squares"
    context.out.line(f"const float result = {centre} / powf({scale}, {literal(a.beta, 'float')});")
    return "result"


def _pad(context: _Context) -> str:
    a = context.head.attributes
    assert isinstance(a, ops.Pad), "dispatched by kind"
    value = context.read(0, context.nest.reads[0])
    if a.mode is not ops.PadMode.CONSTANT:
        return value
    kind = value_type(context.nest.reads[0].source)
    context.out.line(f"const {kind} result = is0 ? {value} : {literal(a.value, kind)};")
    return "result"


def _concat(context: _Context) -> str:
    values = [context.read(position, read) for position, read in enumerate(context.nest.reads[: len(context.head.inputs)])]
    text = values[-1]
    for position in range(len(values) - 2, -1, -1):
        text = f"is{position} ? {values[position]} : {text}"
    kind = ctype(context.graph.tensors[context.head.output].format)
    context.out.line(f"const {kind} result = {text};")
    return "result"


def _gather(context: _Context) -> str:
    a = context.head.attributes
    assert isinstance(a, ops.Gather), "dispatched by kind"
    x, indices = context.nest.reads[:2]
    chosen = context.read(1, indices)
    along = x.subscripts[a.axis]
    context.out.line(f"const int given = static_cast<int>({chosen});")
    context.out.line(f"const int picked = given < 0 ? given + {along.extent} : given;")
    replaced = Subscript(Affine((("picked", 1),)), along.extent, along.stride, Edge.OUTSIDE)
    subscripts = [replaced if axis == a.axis else subscript for axis, subscript in enumerate(x.subscripts)]
    return context.read(0, x, context.place(subscripts))


_HEADS: dict[type, Callable[[_Context], str]] = {
    ops.AveragePool: _average_pool,
    ops.Concat: _concat,
    ops.Conv: _contraction,
    ops.Gather: _gather,
    ops.LocalResponseNorm: _local_response,
    ops.MatMul: _contraction,
    ops.MaxPool: _max_pool,
    ops.Pad: _pad,
    ops.SumPool: _sum_pool,
}


# --- a warp for each row ------------------------------------------------------------------------------------------


def _row(context: _Context) -> None:
    rule = _ROW_RULES.get(type(context.head.attributes))
    if rule is None:
        where = f"{context.head.kind} '{context.head.name}'"
        raise LeptonError("the CUDA emitter has no rule for it", where=where, fix="another target, or change the model")
    rule(context)


def _pass(context: _Context, stack: ExitStack) -> None:
    """Open a pass along the row: lanes take neighbours, 32 at a time; the inner loops follow from the element."""
    out, nest = context.out, context.nest
    length = nest.length
    stack.enter_context(out.block(f"for (int first = 0; first < {length}; first += 32) {{"))
    out.line("const int element = first + lane;")
    out.line(f"const bool within = inside && element < {length};")
    step = length
    for name, extent in nest.inner:
        step //= extent
        out.line(f"[[maybe_unused]] const int {name} = within ? element / {step} % {extent} : 0;")
    context.active = "within"
    stack.callback(setattr, context, "active", "inside")


def _joined(context: _Context, name: str, how: str) -> None:
    kind = "float" if name != "index" else "int"
    context.out.line(f"{name} = lepton::join_lanes({name}, []({kind} a, {kind} b) {{ return {how}; }});")


def _softmax(context: _Context) -> None:
    out, read = context.out, context.nest.reads[0]
    out.line("float peak = -lepton::infinity();")
    with ExitStack() as stack:
        _pass(context, stack)
        value = context.read(0, read)
        out.line(f"peak = within ? lepton::greatest_of(peak, {value}) : peak;")
    _joined(context, "peak", "lepton::greatest_of(a, b)")
    out.line("float sum = 0.0f;")
    with ExitStack() as stack:
        _pass(context, stack)
        value = context.read(0, read)
        out.line(f"sum += within ? expf({value} - peak) : 0.0f;")
    _joined(context, "sum", "a + b")
    with ExitStack() as stack:
        _pass(context, stack)
        value = context.read(0, read)
        context.store(f"expf({value} - peak) / sum")


def _layer_norm(context: _Context) -> None:
    out, reads, a = context.out, context.nest.reads, context.head.attributes
    assert isinstance(a, ops.LayerNorm), "dispatched by kind"
    count = literal(float(context.nest.length), "float")
    for name, term in (("mean", "{0}"), ("variance", "({0} - mean) * ({0} - mean)")):
        out.line(f"float {name} = 0.0f;")
        with ExitStack() as stack:
            _pass(context, stack)
            value = context.read(0, reads[0])
            out.line(f"{name} += within ? {term.format(value)} : 0.0f;")
        _joined(context, name, "a + b")
        out.line(f"{name} /= {count};")
    out.line(f"const float deviation = sqrtf(variance + {literal(a.epsilon, 'float')});")
    with ExitStack() as stack:
        _pass(context, stack)
        x, scale, shift = (context.read(position, reads[position]) for position in range(3))
        context.store(f"({x} - mean) / deviation * {scale} + {shift}")


def _reduce(context: _Context) -> None:
    out, a = context.out, context.head.attributes
    assert isinstance(a, ops.Reduce), "dispatched by kind"
    if str(context.graph.tensors[context.head.output].format) != "float32":
        raise LeptonError("a reduction of other numbers than float32", where=context.head.name, fix="another target")
    start, join = {
        ops.ReduceFunction.SUM: ("0.0f", "{0} + {1}"),
        ops.ReduceFunction.MEAN: ("0.0f", "{0} + {1}"),
        ops.ReduceFunction.MINIMUM: ("lepton::infinity()", "lepton::least_of({0}, {1})"),
        ops.ReduceFunction.MAXIMUM: ("-lepton::infinity()", "lepton::greatest_of({0}, {1})"),
    }[a.function]
    out.line(f"float result = {start};")
    with ExitStack() as stack:
        _pass(context, stack)
        value = context.read(0, context.nest.reads[0])
        out.line(f"result = within ? {join.format('result', value)} : result;")
    _joined(context, "result", join.format("a", "b"))
    if a.function is ops.ReduceFunction.MEAN:
        out.line(f"result /= {literal(float(context.nest.length), 'float')};")
    context.store("result", "inside && lane == 0")


def _argmax(context: _Context) -> None:
    out, a = context.out, context.head.attributes
    assert isinstance(a, ops.ArgMax), "dispatched by kind"
    read = context.nest.reads[0]
    form = read.source.buffer.tensor.format
    if form.bits > 32 or (form.is_integer and form.bits > 24):
        raise LeptonError(f"the greatest of {form}", where=context.head.name, fix="another target")
    last = context.nest.length - 1
    out.line("float best = -lepton::infinity();")
    out.line(f"int index = {'-1' if a.last else last + 1};")
    with ExitStack() as stack:
        _pass(context, stack)
        value = context.read(0, read)
        out.line(f"const float value = static_cast<float>({value});")
        better = "value >= best" if a.last else f"(value > best || index > {last})"
        out.line(f"index = within && {better} ? element : index;")
        out.line("best = within ? lepton::greatest_of(best, value) : best;")
    out.line("const float mine = best;")
    _joined(context, "best", "lepton::greatest_of(a, b)")
    out.line(f"index = mine == best ? index : {'-1' if a.last else last + 1};")
    _joined(context, "index", f"lepton::{'greatest' if a.last else 'least'}_of(a, b)")
    context.store("index", "inside && lane == 0")


_ROW_RULES: dict[type, Callable[[_Context], None]] = {
    ops.ArgMax: _argmax,
    ops.LayerNorm: _layer_norm,
    ops.Reduce: _reduce,
    ops.Softmax: _softmax,
}
