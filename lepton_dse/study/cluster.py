"""Workers of a Dask cluster, by its scheduler's address."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from lepton_dse.errors import LeptonError, MissingToolError

__all__ = ["dask_executor", "workers_of"]

_WAIT_S = 10
"""How long a scheduler may take to answer, and then a worker to be there."""


@contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """An executor whose tasks run on a cluster.

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``tcp://10.0.0.1:8786``.

    Raises
    ------
    MissingToolError
        If Dask is not installed.
    LeptonError
        If no scheduler answers, or it has no worker.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingToolError("Dask is not installed", fix="pip install 'lepton_dse[dask]'") from error
    log = logging.getLogger("distributed")
    before = log.level
    log.setLevel(logging.CRITICAL)  # what of it matters becomes an error here
    try:
        with _connected(Client, address) as client:
            yield client.get_executor(pure=False)
    finally:
        log.setLevel(before)


def workers_of(executor: Executor) -> int:
    """How many workers the cluster of such an executor has now."""
    client: Any = vars(executor)["_client"]
    return max(len(client.ncores()), 1)


@contextmanager
def _connected(connect: type, address: str) -> Iterator[Any]:
    try:
        client = connect(address, timeout=_WAIT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
        fix = "give the address that the scheduler prints, such as tcp://10.0.0.1:8786"
        raise LeptonError("no Dask scheduler answers", where=address, fix=fix) from error
    try:
        try:
            client.wait_for_workers(1, timeout=_WAIT_S)
        except TimeoutError as error:
            fix = f"start some: dask worker {address} --nthreads 1"
            raise LeptonError("the Dask cluster has no worker", where=address, fix=fix) from error
        yield client
    finally:
        client.close()
