"""Runs the program of this folder on its test vectors; needs jax, numpy and safetensors.

    python run.py                      model.mlir, the StableHLO text
    python run.py --source             model.py, the same as JAX source
    python run.py --tiled              tiled.py, where there is one: model.py with matrix products as Pallas kernels
    python run.py --archive FILE       an archive of jax.export, as export.py writes it
    python run.py --interpret          model.mlir in the reference interpreter of StableHLO; a program of one device

Devices of the platform that JAX finds are used; without one, as many of the processor as the mesh has.
"""

import argparse
import dataclasses
import importlib
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def prepare(devices):
    """Set what must be set before JAX is imported: devices of the processor, and no precision beyond what the program states."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    flags = f"--xla_force_host_platform_device_count={devices} --xla_allow_excess_precision=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    import jax

    jax.config.update("jax_enable_x64", True)  # integers of 64 bits are what they are


def dtype_of(name):
    """A NumPy type; JAX brings those that NumPy lacks."""
    import jax.numpy as jnp

    return jnp.dtype(name)


class Description:
    """arguments.json: the mesh, what main takes and gives; `first` is the first of the devices in use."""

    def __init__(self, path, first=0):
        document = json.loads(Path(path).read_text())
        self.axes = [(name, size) for name, size in document["mesh"]]
        self.arguments, self.results = document["arguments"], document["results"]
        self.samples = document["samples"]
        self.first = first
        self.devices = 1
        for _, size in self.axes:
            self.devices *= size

    def mesh(self):
        """The mesh over consecutive devices."""
        import jax
        import numpy as np

        found = np.array(jax.devices()[self.first : self.first + self.devices])
        return jax.sharding.Mesh(found.reshape([size for _, size in self.axes]), [name for name, _ in self.axes])

    def shardings(self, entries):
        """How arguments or results lie on the mesh."""
        import jax

        mesh = self.mesh()
        return [
            jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*[tuple(axes) or None for axes in entry["cuts"]]))
            for entry in entries
        ]

    def structs(self, entries):
        """Shapes, types and shardings."""
        import jax

        return [
            jax.ShapeDtypeStruct(tuple(entry["shape"]), dtype_of(entry["dtype"]), sharding=sharding)
            for entry, sharding in zip(entries, self.shardings(entries), strict=True)
        ]


def weights(folder, description):
    """Values of the constant arguments by position."""
    from safetensors.numpy import load_file

    stored = load_file(str(Path(folder) / "weights.safetensors"))
    found = {}
    for position, entry in enumerate(description.arguments):
        if entry["constant"]:
            value = stored[entry["stored"]]
            dtype = dtype_of(entry["dtype"])
            found[position] = value if value.dtype == dtype else value.view(dtype)
    return found


def exported(description, text, platform):
    """The text as a jax.export.Exported: that of an empty function of the same arguments and results, its module exchanged."""
    import jax
    import jax.numpy as jnp
    from jax import export
    from jax.interpreters import mlir
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import stablehlo

    results = description.structs(description.results)

    def blank(*values):
        return [jnp.zeros(entry.shape, entry.dtype) for entry in results]

    function = jax.jit(
        blank,
        in_shardings=tuple(description.shardings(description.arguments)),
        out_shardings=[entry.sharding for entry in results],
        keep_unused=True,
    )
    frame = export.export(function, platforms=[platform])(*description.structs(description.arguments))
    requirement = stablehlo.StablehloCompatibilityRequirement.WEEK_4
    with mlir.make_ir_context():
        module = ir.Module.parse(text)
        version = stablehlo.get_version_from_compatibility_requirement(requirement)
        serialized = stablehlo.serialize_portable_artifact(module, version, True)
    return dataclasses.replace(frame, mlir_module_serialized=serialized)


def compiled(description, function):
    """A function compiled for the described arguments."""
    import jax

    return jax.jit(function, keep_unused=True).lower(*description.structs(description.arguments)).compile()


def passes(folder, description):
    """Arguments of every pass: samples in order, the last pass filled up with its last sample."""
    import numpy as np

    constants = weights(folder, description)
    entries = [entry for entry in description.arguments if not entry["constant"]]
    files = [Path(folder) / "vectors" / f"input_{number}.bin" for number in range(len(entries))]
    samples = [
        np.fromfile(path, dtype_of(entry["dtype"])).reshape(-1, *entry["shape"][1:])
        for path, entry in zip(files, entries, strict=True)
    ]
    batch = entries[0]["shape"][0]
    for start in range(0, description.samples, batch):
        values = []
        for position in range(len(description.arguments)):
            if position in constants:
                values.append(constants[position])
                continue
            chunk = samples[position][start : start + batch]
            filled = [chunk, np.repeat(chunk[-1:], batch - len(chunk), axis=0)]
            values.append(np.concatenate(filled))
        yield values


def run(folder, description, function):
    """Results of every pass, joined along the first axis."""
    import jax
    import numpy as np

    shardings = description.shardings(description.arguments)
    found = [[] for _ in description.results]
    for values in passes(folder, description):
        placed = [jax.device_put(value, sharding) for value, sharding in zip(values, shardings, strict=True)]
        for parts, value in zip(found, function(*placed), strict=True):
            parts.append(np.asarray(value))
    return [np.concatenate(parts) if parts[0].ndim else np.stack(parts) for parts in found]


def interpreted(text):
    """The module in the reference interpreter of StableHLO, which knows no mesh; CHLO is spelt out first."""
    import numpy as np
    from jax.interpreters import mlir
    from jaxlib.mlir import ir, passmanager
    from jaxlib.mlir.dialects import stablehlo

    stablehlo.register_stablehlo_passes()
    context = mlir.make_ir_context()
    with context:
        module = ir.Module.parse(text)
        passmanager.PassManager.parse("builtin.module(func.func(chlo-legalize-to-stablehlo))").run(module.operation)

    def function(*values):
        with context, ir.Location.unknown():
            found = stablehlo.eval_module(module, [attribute(value) for value in values])
            return [np.array(entry) for entry in found]

    def attribute(value):
        value = np.ascontiguousarray(value).reshape(np.shape(value))
        return ir.DenseElementsAttr.get(value, type=mlir.dtype_to_ir_type(value.dtype), shape=list(value.shape))

    return function


def parsed():
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description="Runs the program of this folder on its test vectors.")
    parser.add_argument("--model", default=HERE / "model.mlir", help="StableHLO text")
    parser.add_argument("--arguments", default=HERE / "arguments.json", help="its description")
    parser.add_argument("--source", action="store_true", help="run model.py instead")
    parser.add_argument("--tiled", action="store_true", help="run tiled.py instead")
    parser.add_argument("--archive", help="run an archive of jax.export instead")
    parser.add_argument("--interpret", action="store_true", help="in the reference interpreter of StableHLO")
    parser.add_argument("--observe", help="folder for results, the compiled program and what the compiler says of it")
    return parser.parse_args()


def program(description, chosen):
    """The compiled program, whichever form was asked for."""
    if chosen.source or chosen.tiled:
        return compiled(description, source(description, tiled=chosen.tiled))
    if chosen.archive:
        from jax import export

        return compiled(description, export.deserialize(bytearray(Path(chosen.archive).read_bytes())).call)
    return compiled(description, exported(description, Path(chosen.model).read_text(), used_platform()).call)


def source(description, *, tiled):
    """The function of whole arrays that model.py or tiled.py defines."""
    sys.path.insert(0, str(HERE))
    return importlib.import_module("tiled" if tiled else "model").sharded(description.mesh())


def kernels(function, description):
    """Grid and blocks of every Pallas kernel that a function calls, and how often."""
    import jax

    found = []

    def walk(jaxpr, times):
        for equation in jaxpr.eqns:
            fields = equation.params
            if equation.primitive.name == "pallas_call":
                mapping = fields["grid_mapping"]
                blocks = [
                    [part.block_size for part in entry.block_shape if hasattr(part, "block_size")]
                    for entry in mapping.block_mappings
                ]
                found.append({"grid": list(mapping.grid), "blocks": blocks, "times": times})
                continue
            turns = fields["length"] if equation.primitive.name == "scan" else 1
            for value in fields.values():
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    walk(inner, times * turns)

    walk(jax.make_jaxpr(function)(*description.structs(description.arguments)).jaxpr, 1)
    return found


def used_platform():
    """The name by which jax.export knows the devices in use."""
    import jax

    found = jax.devices()[0].platform
    return {"gpu": "cuda"}.get(found, found)


def observe(folder, function, found, called=()):
    """Write results, what the compiler says of the program, and the kernels that it calls."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number, value in enumerate(found):
        value.tofile(folder / f"result_{number}.bin")
    said = {"imported": sorted({name.partition(".")[0] for name in sys.modules}), "kernels": list(called)}
    if hasattr(function, "as_text"):
        memory, cost = function.memory_analysis(), function.cost_analysis() or {}
        said["argument_bytes"] = int(memory.argument_size_in_bytes)
        said["output_bytes"] = int(memory.output_size_in_bytes)
        said["flops"] = float(cost.get("flops", 0.0))
        (folder / "compiled.hlo").write_text(function.as_text())
    (folder / "observed.json").write_text(json.dumps(said))


def compare(description, found):
    """Print how far every output is from the reference's."""
    import numpy as np

    for number, (entry, value) in enumerate(zip(description.results, found, strict=True)):
        expected = np.fromfile(HERE / "vectors" / f"expected_{number}.bin", dtype_of(entry["dtype"]))
        observed = value[: description.samples].reshape(-1)
        differing = int(np.count_nonzero(expected != observed))
        apart = np.abs(expected.astype(np.float64) - observed.astype(np.float64)).max(initial=0)
        print(f"output {number}: {differing} of {expected.size} values differ from the reference, by {apart:g} at most")


def main():
    """Run, and say or write what came out."""
    chosen = parsed()
    description = Description(chosen.arguments)
    prepare(description.devices)
    function = interpreted(Path(chosen.model).read_text()) if chosen.interpret else program(description, chosen)
    found = run(HERE, description, function)
    if chosen.observe:
        called = kernels(source(description, tiled=True), description) if chosen.tiled else []
        observe(chosen.observe, function, found, called)
    else:
        compare(description, found)


if __name__ == "__main__":
    main()
