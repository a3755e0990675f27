"""A study: everything that may be chosen, searched at once, and a front whose every member was measured."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from lepton_dse.data import Dataset
from lepton_dse.errors import InvalidDataError, LeptonError
from lepton_dse.files import read_text
from lepton_dse.flow import PlannedModel
from lepton_dse.importers import load_model
from lepton_dse.ir.graph import Graph
from lepton_dse.plan import explain_validation
from lepton_dse.reference.metrics.protocol import metric_named
from lepton_dse.study.detail import Detail
from lepton_dse.study.executing import Here, Runner, one_thread_each, process_pool
from lepton_dse.study.keys import data_digest
from lepton_dse.study.machine import check_sweep, machine_of
from lepton_dse.study.objectives import MEASURED, Constraint, Objective, figures_of
from lepton_dse.study.reading import read_finished
from lepton_dse.study.reuse import Reuse, read_earlier
from lepton_dse.study.run import Found, Row, Run, Step
from lepton_dse.study.settings import Settings, read_study
from lepton_dse.study.software import software
from lepton_dse.study.space import Space
from lepton_dse.study.state import StudyFolder
from lepton_dse.study.work import Inputs, software_digest, write_inputs

__all__ = ["Study"]


class Study:
    """Searches hardware and compression together.

    Parameters
    ----------
    model : Graph, str or Path
        A float network, or its file.
    space : Space
    folder : str or Path
        Where the study keeps what it finds; it can be resumed from there.
    data : Dataset, str or Path, optional
        Of a split that choices may be made on; needed where an objective or a constraint is measured.
    root : str or Path
        The folder at which paths of hardware models start.
    **options
        Fields of :class:`~lepton_dse.study.settings.Settings`: minimize, subject_to, samples, seed ...

    Raises
    ------
    LeptonError
        For wrong arguments, unknown targets, or missing data.

    Examples
    --------
    >>> space = ld.Space(targets=["nvidia-t4", "google-tpu-v1"], formats=["float16", "int8"])
    >>> study = ld.Study("model.onnx", space, folder="out", minimize=["latency_s", "energy_j"]).run()
    >>> study.best("energy_j", ["latency_s <= 1e-3"])
    """

    def __init__(
        self,
        model: Graph | str | Path,
        space: Space,
        *,
        folder: str | Path,
        data: Dataset | str | Path | None = None,
        root: str | Path = ".",
        **options: Any,
    ) -> None:
        try:
            self.settings = Settings(space=space, **options)
        except ValidationError as error:
            raise LeptonError(explain_validation(error), where="Study", fix="see the fields of Settings") from error
        self.graph = model if isinstance(model, Graph) else load_model(model)
        self.folder = Path(folder)
        self.found: Found | None = None
        self._toml = ""
        self._machines = {sweep.target: machine_of(sweep, Path(root)) for sweep in space.targets}
        for sweep in space.targets:
            wrong = check_sweep(sweep, self._machines[sweep.target])
            if wrong is not None:
                raise wrong[1]
        self._data = self._chosen(Dataset.read(data) if isinstance(data, str | Path) else data)

    @classmethod
    def read(cls, path: str | Path, folder: str | Path) -> Study:
        """A study from its TOML file.

        Raises
        ------
        LeptonError
            If the file is wrong; the message names file, line and key.
        """
        path = Path(path)
        asked = read_study(path)
        options = {name: getattr(asked, name) for name in Settings.model_fields if name != "space"}
        data = None if asked.data is None else path.parent / asked.data
        study = cls(path.parent / asked.model, asked.space, folder=folder, data=data, root=path.parent, **options)
        study._toml = read_text(path)
        return study

    def run(
        self,
        executor: Executor | Callable[[], Executor] | None = None,
        *,
        workers: int | None = None,
        resume: bool = False,
        reuse: str | Path | None = None,
        storage: str | None = None,
        study_name: str | None = None,
        progress: Callable[[Step], None] = lambda step: None,
    ) -> Study:
        """Search, and measure the front.

        The result does not depend on the executor or on how many workers there are.

        Parameters
        ----------
        executor : Executor or callable, optional
            Any executor, or a function that makes one: only such a one can be replaced when its workers are lost.
        workers : int, optional
            Processes of the default executor; one a core where nothing is said, and 0 to compute in this process. Of another
            executor: tasks that are claimed for it at once where the study is shared.
        resume : bool
            Go on with what the folder holds.
        reuse : str or Path, optional
            Folder of an earlier study, finished or not, whose answers are taken over where all that they depend on is equal.
        storage : str, optional
            URL of a PostgreSQL database in which several drivers share the study, each with a folder of its own; a study that
            is there already is joined, if all that it is asked is equal.
        study_name : str, optional
            Name of the study in the database; the network's where nothing is said.
        progress : callable
            Told how far the study is.

        Returns
        -------
        Study
            Itself, with :attr:`found` and :attr:`front`.

        Raises
        ------
        LeptonError
            If a folder, the earlier study, the executor or the database cannot be used.
        """
        if workers is not None and workers < 0:
            raise LeptonError(f"{workers} workers", fix="use 0 or more")
        if storage is not None and reuse is not None:
            fix = "run one of the two: what was reused here, other drivers would compute"
            raise LeptonError("an earlier study cannot be reused by one that is shared", where=str(reuse), fix=fix)
        own = executor is None
        if executor is None:
            count = os.cpu_count() or 1 if workers is None else workers
            executor = process_pool(count) if count else Here
        asked = {
            "settings": self.settings.model_dump(mode="json"),
            "model_digest": self.graph.digest,
            "data_digest": None if self._data is None else data_digest(self._data),
            "targets_digest": _digest(*(machine.digest for machine in self._machines.values())),
            "software": software(),
        }
        earlier = None if reuse is None else self._earlier(Path(reuse))
        samples = 0 if self._data is None else len(self._data)
        with ExitStack() as stack:
            runner = Runner(executor)
            folder: Callable[..., StudyFolder] = StudyFolder
            if storage is not None:
                from lepton_dse.study.database import Database
                from lepton_dse.study.sharing import SharedFolder, SharedRunner

                objectives = [(entry.figure, entry.maximize) for entry in self.settings.objectives]
                database = stack.enter_context(Database(storage, study_name or self.graph.name, asked, objectives))
                runner = SharedRunner(executor, database, os.cpu_count() or 1 if workers is None else max(workers, 1))
                folder = partial(SharedFolder, database=database)
            state = stack.enter_context(folder(self.folder, asked, self._toml, resume=resume))
            stop = stack.enter_context(_interrupts())
            inputs = self._inputs(asked, "" if own else software_digest())
            with one_thread_each(), runner:
                self.found = Run(self.settings, state, runner, inputs, samples, progress, stop, earlier).result()
        return self

    @property
    def front(self) -> tuple[Row, ...]:
        """The front, by the first objective."""
        if self.found is None:
            raise LeptonError("the study has not run", where=str(self.folder), fix="call run first")
        return self.found.front

    def best(self, objective: str, subject_to: Sequence[str] = ()) -> Row | None:
        """The member of the front that is best in one figure and keeps constraints; None where there is none."""
        chosen, bounds = Objective(objective), [Constraint.parse(text) for text in subject_to]
        rows = [row for row in self.front if not any(bound.broken(row.figures) for bound in bounds)]
        known = [(value, row) for row in rows if (value := chosen.value(row.figures)) is not None]
        return min(known, key=lambda entry: entry[0])[1] if known else None

    def planned(self, row: Row) -> PlannedModel:
        """The plan of a member of the front, which can be saved and emitted: :meth:`~lepton_dse.study.detail.Detail.planned`.

        Raises
        ------
        LeptonError
            If the folder is not as the study left it, or there is no such plan.
        """
        finished = read_finished(self.folder)
        for entry in finished.candidates:
            if entry.front and entry.row.candidate == row.candidate:
                return Detail(self.folder, finished).planned(entry)
        raise LeptonError(f"{row.candidate} is not on the front", where=str(self.folder), fix="give a member of the front")

    def _chosen(self, data: Dataset | None) -> Dataset | None:
        """The samples that are used, in seeded order; without any where nothing uses them."""
        settings = self.settings
        if not settings.measures:
            calibrates = settings.fpga == "plan" or settings.space.meshed
            if not calibrates or data is None:
                return None
        else:
            metric = metric_named(settings.metric)
            if data is None or (metric.labels and data.y is None):
                what = "labelled data" if metric.labels else "data"
                asked = figures_of(settings.objectives, settings.constraints)
                named = next(figure for figure in asked if figure in MEASURED)
                raise InvalidDataError(f"'{named}' needs {what}", where="data", fix="give an .npz file with x and y")
        order = np.random.default_rng(settings.seed).permutation(len(data))
        used = order[: max(settings.samples or len(data), settings.calibration)]
        return Dataset(data.x[used], None if data.y is None else data.y[used])

    def _earlier(self, folder: Path) -> Reuse:
        if folder.resolve() == self.folder.resolve():
            fix = "give the new study a folder of its own, or go on with this one by --resume"
            raise LeptonError("is the study's own folder", where=str(folder), fix=fix)
        return read_earlier(folder, self.settings, self.graph, self._data, self._machines)

    def _inputs(self, asked: dict[str, Any], software: str) -> Inputs:
        parts = (asked["model_digest"], asked["data_digest"] or "", asked["targets_digest"])
        folder = self.folder.resolve() / "inputs" / _digest(*parts)[:24]
        write_inputs(folder, self.graph, self._data, self._machines)
        settings = self.settings
        return Inputs(str(folder), settings.fpga, settings.metric, settings.calibration, settings.seed, software)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that the first interrupt sets; the second one interrupts at once.

    Where interrupts are ignored, as in what a shell starts in the background, they stay so.
    """
    stop = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield stop
        return

    def note(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
