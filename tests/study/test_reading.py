"""A finished study read from its folder: what was found, word for word; anything else is one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lepton_dse.errors import LeptonError
from lepton_dse.study import Step, Study, read_finished

Make = Callable[..., Study]
SMALL = {"targets": ["nvidia-t4"], "formats": ["float32", "int8"], "sparsities": [0], "channels": [0]}
COST = {"minimize": ["latency_s", "energy_j"], "data": None}


@pytest.mark.parametrize(
    "options",
    [
        {},
        COST,
        {"samples": 30, "subject_to": ["loss_points <= 10", "latency_s <= 1.7e-5"]},
        {"subject_to": ["latency_s <= 1e-12"]},
        {"enumerate_up_to": 0, "population": 4, "trials": 14},
        {"enumerate_up_to": 0, "population": 4, "sampler": "random", "patience": 2, "least_gain": 0.5, **COST},
    ],
)
def test_what_is_read_is_what_was_found(study: Make, options: dict[str, object]) -> None:
    one = study(**options).run(workers=0)
    before = {path: path.stat().st_mtime_ns for path in one.folder.rglob("*")}
    read = read_finished(one.folder)
    assert read.found == one.found
    assert read.settings == one.settings
    assert read.graph.digest == one.graph.digest
    assert read.samples == (0 if options.get("data", 1) is None else options.get("samples", 60))
    assert {path: path.stat().st_mtime_ns for path in one.folder.rglob("*")} == before


def test_every_candidate_is_read_as_it_stands(study: Make) -> None:
    one = study(subject_to=["latency_s <= 1.7e-5"]).run(workers=0)
    read = read_finished(one.folder)
    space, found = one.settings.space, read.found
    assert [entry.index for entry in read.candidates] == list(range(space.size))
    assert all(entry.row.candidate == space.candidate(entry.index) for entry in read.candidates)
    assert {entry.row.candidate: entry.row for entry in read.candidates if entry.front} == {
        row.candidate: row for row in found.front
    }
    assert sum(bool(entry.why) for entry in read.candidates) == found.infeasible > 0
    assert tuple((str(entry.row.candidate), entry.why) for entry in read.candidates if entry.why)[:5] == found.reasons
    for entry in read.candidates:
        broken = (entry.row.figures["latency_s"] or 0.0) > 1.7e-5
        assert broken == ("asked is latency_s" in entry.why)


def test_a_moved_folder_is_read(study: Make, tmp_path: Path) -> None:
    one = study(**COST).run(workers=0)
    shutil.move(one.folder, tmp_path / "moved")
    assert read_finished(tmp_path / "moved").found == one.found


def test_an_unfinished_study_is_refused(study: Make) -> None:
    one = study()

    def stop(step: Step) -> None:
        if step.stage.startswith("accuracy of the front"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.run(workers=0, progress=stop)
    (variants := sorted((one.folder / "variants").glob("*-60.json")))[0].unlink()
    assert variants
    with pytest.raises(LeptonError, match="the study is not finished; go on with it"):
        read_finished(one.folder)
    one.run(workers=0, resume=True)
    assert read_finished(one.folder).found == one.found


def test_a_torn_journal_is_unfinished(study: Make) -> None:
    one = study(**COST).run(workers=0)
    path = one.folder / "journal.log"
    text = path.read_text()
    for end in (0, len(text) // 2, len(text) - 30, len(text) - 2):
        path.write_text(text[:end])
        with pytest.raises(LeptonError, match="the study is not finished"):
            read_finished(one.folder)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("study.json", "{", "["),
        ("study.json", '"settings"', '"sittings"'),
        ("study.json", '"latency_s"', '"speed"'),
        ("study.json", '"model_digest": "', '"model_digest": "0'),
        ("journal.log", '"op_code"', "op_code"),
        ("journal.log", '"index":0,', '"index":48,'),
        ("journal.log", '"index":0,', '"index":0.5,'),
        ("journal.log", '"latency_s":', '"latency_s":"slow","was":'),
        ("journal.log", '"evidence":"', '"evidence":"<b>'),
        ("journal.log", '"band_pct":null', '"band_pct":"none"'),
        ("journal.log", '"why":""', '"why":["a"]'),
        ("journal.log", '"failed":false', '"failed":"no"'),
        ("variant", '"low": ', '"low": "a", "was": '),
        ("variant", '"count": 60', '"count": "many"'),
        ("variant", '"low": 0', '"low": ["0"'),
    ],
)
def test_a_damaged_folder_is_one_line(study: Make, name: str, old: str, new: str) -> None:
    one = study(axes=SMALL).run(workers=0)
    path = next((one.folder / "variants").glob("*-60.json")) if name == "variant" else one.folder / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(LeptonError, match=r"damaged|no study's record|not that of the study|no measured accuracy") as refused:
        read_finished(one.folder)
    assert str(one.folder) in str(refused.value)


def test_a_candidate_that_is_missing_is_damage(study: Make) -> None:
    one = study(axes=SMALL, **COST).run(workers=0)
    path = one.folder / "journal.log"
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"index":1,' not in line]
    assert len(kept) == len(lines) - 1
    path.write_text("".join(kept))
    with pytest.raises(LeptonError, match="the study's record is damaged"):
        read_finished(one.folder)


def test_a_string_for_a_number_is_damage(study: Make) -> None:
    one = study(axes=SMALL).run(workers=0)
    for path in (one.folder / "variants").glob("*-60.json"):
        document = json.loads(path.read_text())
        document["loss"]["high"] = "<b>"
        path.write_text(json.dumps(document))
    with pytest.raises(LeptonError, match="the study's record is damaged"):
        read_finished(one.folder)


def test_other_folders_are_refused(study: Make, tmp_path: Path) -> None:
    with pytest.raises(LeptonError, match="holds no study"):
        read_finished(tmp_path / "none")
    one = study(**COST).run(workers=0)
    kept = next((one.folder / "inputs").iterdir())
    (kept / "graph.json").write_text("{}")
    with pytest.raises(LeptonError):
        read_finished(one.folder)
    shutil.rmtree(kept)
    with pytest.raises(LeptonError, match="the study's model is missing"):
        read_finished(one.folder)
    (one.folder / "journal.log").unlink()
    with pytest.raises(LeptonError, match="the study is not finished"):
        read_finished(one.folder)


def test_damaged_data_are_named(study: Make) -> None:
    one = study(axes=SMALL).run(workers=0)
    next((one.folder / "inputs").glob("*/data.safetensors")).write_bytes(b"\0" * 16)
    with pytest.raises(LeptonError, match="the study's data are damaged"):
        read_finished(one.folder)
