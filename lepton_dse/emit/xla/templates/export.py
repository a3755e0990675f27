"""Writes the program of this folder as an archive of jax.export: ``python export.py model.jax_export``.

The archive holds the module in the portable form of StableHLO, which later releases of JAX read. Weights stay outside: they are
arguments, in the order of arguments.json. ``jax.export.deserialize(data).call(*arguments)`` runs it.
"""

import argparse
from pathlib import Path

import run


def main():
    """Write the archive."""
    parser = argparse.ArgumentParser(description="Writes the program of this folder as an archive of jax.export.")
    parser.add_argument("archive", help="file to write")
    parser.add_argument("--platform", default="cpu", choices=("cpu", "cuda", "rocm", "tpu"), help="that will run it")
    chosen = parser.parse_args()
    description = run.Description(run.HERE / "arguments.json")
    run.prepare(description.devices)
    text = (run.HERE / "model.mlir").read_text()
    Path(chosen.archive).write_bytes(run.exported(description, text, chosen.platform).serialize())


if __name__ == "__main__":
    main()
