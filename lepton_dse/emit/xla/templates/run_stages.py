"""Runs the stages of this folder one after another, each on devices of its own, and hands on what passes between them.

    python run_stages.py

Needs what run.py needs. A tensor is left in the layout in which the next stage takes it, so that each device sends its part to
one other device.
"""

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "stage_0"))
import run  # noqa: E402  (every stage has the same)


def main():
    """Run all samples, and say or write what came out."""
    parser = argparse.ArgumentParser(description="Runs the stages of this folder on its test vectors.")
    parser.add_argument("--observe", help="folder for results and what was sent")
    chosen = parser.parse_args()
    document = json.loads((HERE / "stages.json").read_text())
    folders = [HERE / name for name in document["stages"]]
    descriptions, first = [], 0
    for folder in folders:
        descriptions.append(run.Description(folder / "arguments.json", first))
        first += descriptions[-1].devices
    run.prepare(first)
    import numpy as np

    functions = [
        run.compiled(entry, run.exported(entry, (folder / "model.mlir").read_text(), run.used_platform()).call)
        for folder, entry in zip(folders, descriptions, strict=True)
    ]
    found, sent = {name: [] for name in document["outputs"]}, 0
    for start, have in inputs(document, folders, descriptions):
        for folder, entry, function in zip(folders, descriptions, functions, strict=True):
            made, moved = step(folder, entry, function, have)
            sent += moved if start == 0 else 0
            have.update(made)
        for name, parts in found.items():
            parts.append(np.asarray(have[name]))
    joined = [np.concatenate(parts) for parts in found.values()]
    if chosen.observe:
        folder = Path(chosen.observe)
        folder.mkdir(parents=True, exist_ok=True)
        for number, value in enumerate(joined):
            value.tofile(folder / f"result_{number}.bin")
        said = {"sent_bytes": sent, "imported": sorted({name.partition(".")[0] for name in sys.modules})}
        (folder / "observed.json").write_text(json.dumps(said))
    else:
        print(f"{len(folders)} stages of {descriptions[0].devices} devices; {sent} bytes sent between stages in a pass")


def inputs(document, folders, descriptions):
    """Number of the first sample, and the whole inputs, of every pass; the last one filled up with its last sample."""
    import numpy as np

    samples = {}
    for folder, entry in zip(folders, descriptions, strict=True):
        taken = [argument for argument in entry.arguments if not argument["constant"]]
        for number, argument in enumerate(taken):
            if argument["name"] in document["inputs"]:
                value = np.fromfile(folder / "vectors" / f"input_{number}.bin", run.dtype_of(argument["dtype"]))
                samples[argument["name"]] = value.reshape(-1, *argument["shape"][1:])
                batch = argument["shape"][0]
    for start in range(0, descriptions[0].samples, batch):
        chunks = {name: value[start : start + batch] for name, value in samples.items()}
        yield (
            start,
            {name: np.concatenate([chunk, np.repeat(chunk[-1:], batch - len(chunk), axis=0)]) for name, chunk in chunks.items()},
        )


def step(folder, description, function, have):
    """Results of one stage by name, and bytes that came from devices of other stages."""
    import jax

    constants, values, moved = run.weights(folder, description), [], 0
    for position, (entry, sharding) in enumerate(
        zip(description.arguments, description.shardings(description.arguments), strict=True)
    ):
        value = constants[position] if entry["constant"] else have[entry["name"]]
        placed = jax.device_put(value, sharding)
        if isinstance(value, jax.Array):
            moved += sum(shard.data.nbytes for shard in placed.addressable_shards)
        values.append(placed)
    names = [entry["name"] for entry in description.results]
    return dict(zip(names, function(*values), strict=True)), moved


if __name__ == "__main__":
    main()
