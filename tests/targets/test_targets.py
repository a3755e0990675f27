"""Hardware models: every shipped one loads, every number has a source, and the digest sees all of them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from lepton_dse.errors import InvalidTargetError
from lepton_dse.files import data_folder
from lepton_dse.numerics.formats import Precision
from lepton_dse.targets import AnyTarget, FpgaTarget, load_target, target_names
from lepton_dse.targets.cluster import CLUSTERS
from lepton_dse.targets.loader import Target
from lepton_dse.targets.schema import SourceKind

FILES = sorted(path for path in data_folder("hwmodels").rglob("*.toml") if path.parent.name != CLUSTERS)
ADAPTER: TypeAdapter[AnyTarget] = TypeAdapter(Target)


def name_of(path: Path) -> str:
    return f"unit-{path.stem}" if path.parent.name == "unit" else path.stem


def test_every_file_is_a_target_and_every_target_a_file() -> None:
    assert sorted(map(name_of, FILES)) == list(target_names())
    assert [name for name in target_names() if not name.startswith("unit-")] == list(target_names(unit=False))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_number_has_a_described_source(path: Path) -> None:
    target = load_target(name_of(path))
    assert target.name == name_of(path)
    assert path.parent.name in (target.family, "unit")
    assert load_target(path) == target
    numbers = dict(target.quantities())
    assert numbers
    used = {quantity.source for quantity in numbers.values()}
    assert used == set(target.sources)  # none is missing, and none is described in vain
    assert all(source.title and source.place for source in target.sources.values())
    unverified = {name for name, quantity in numbers.items() if target.sources[quantity.source].kind is SourceKind.UNVERIFIED}
    assert set(target.unverified) == unverified
    # No bare number stands in the file.
    for key, value in leaves(tomllib.loads(path.read_text())):
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert key[-1] == "value" or key == ("schema_version",), key


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    elif isinstance(node, list):
        for value in node:
            yield from leaves(value, path)
    else:
        yield path, node


def numbers_in(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict) and set(node) == {"value", "source"}:
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from numbers_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from numbers_in(value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_digest_changes_with_any_number(path: Path) -> None:
    target = load_target(path)
    document = target.model_dump(mode="json")
    digests = {target.digest}
    numbers = list(numbers_in(document))
    assert len(numbers) == len(list(target.quantities()))
    for number in numbers:
        before = number["value"]
        number["value"] = before * (1 - 2**-20) if before else 0.5
        try:
            digests.add(ADAPTER.validate_python(document).digest)
        except ValueError:  # two levels of one size, say: a little less breaks their order, a little more does not
            number["value"] = before * (1 + 2**-20)
            digests.add(ADAPTER.validate_python(document).digest)
        number["value"] = before
    assert len(digests) == len(numbers) + 1
    assert ADAPTER.validate_python(document).digest == target.digest


def test_a_copy_has_its_own_digest() -> None:
    target = load_target("unit-fpga")
    assert isinstance(target, FpgaTarget)
    before = target.digest
    assert target.model_copy(update={"lut": target.dsp}).digest != before


def timed() -> dict[str, Any]:
    """The ECP5's model as a document."""
    document: dict[str, Any] = load_target("lattice-ecp5-85f").model_dump(mode="json")
    return document


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"faster": {"value": 1.5, "source": "nextpnr"}, "slower": {"value": 1.2, "source": "nextpnr"}}, "faster"),
        ({"register_s": {"value": 0, "source": "nextpnr"}}, "register_s"),
        ({"level_s": {"value": -1e-9, "source": "nextpnr"}}, "level_s"),
        ({"level_s": {"value": 1e-9, "source": "nowhere"}}, "nowhere"),
        ({"level_s": 1e-9}, "level_s"),
        ({"hop_s": {"value": 1e-9, "source": "nextpnr"}}, "hop_s"),
    ],
)
def test_timing_of_a_fabric_is_checked(change: dict[str, Any], word: str) -> None:
    document = timed()
    document["timing"] |= change
    with pytest.raises(ValueError, match=word):
        ADAPTER.validate_python(document)


@pytest.mark.parametrize("missing", ["register_s", "load_s", "slower"])
def test_timing_of_a_fabric_is_whole(missing: str) -> None:
    document = timed()
    del document["timing"][missing]
    with pytest.raises(ValueError, match=missing):
        ADAPTER.validate_python(document)


def test_without_timing_a_model_is_written_as_before_there_was_any() -> None:
    untimed = [target for path in FILES if isinstance(target := load_target(path), FpgaTarget) and target.timing is None]
    assert untimed
    assert not any("timing" in target.model_dump(mode="json") for target in untimed)
    assert {target.fabric for target in map(load_target, FILES) if isinstance(target, FpgaTarget) and target.timing} == {
        "ecp5",
        "xc7",
    }


def test_peaks_are_those_that_compute_a_format_exactly() -> None:
    target = load_target("amd-epyc-9654")
    assert not isinstance(target, FpgaTarget)
    chosen = {
        form: target.peak(Precision.parse(form)) for form in ("int8", "w4a8", "int9", "int16", "bfloat16", "float32", "float64")
    }
    assert {form: peak.format if peak else None for form, peak in chosen.items()} == {
        "int8": "int8",
        "w4a8": "int8",
        "int9": "int16",
        "int16": "int16",
        "bfloat16": "bfloat16",
        "float32": "float32",
        "float64": None,
    }


def test_usable_resources_are_whole() -> None:
    target = load_target("amd-zynq-7020")
    assert isinstance(target, FpgaTarget)
    assert target.resources() == {"LUT": 37240, "FF": 53200, "DSP": 176, "BRAM18": 224}


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(InvalidTargetError, match="amd-zynq-7020"):
        load_target("amd-zinq-7020")


def test_a_persons_own_models_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    own = tmp_path / ".config" / "lepton_dse" / "hwmodels"
    own.mkdir(parents=True)
    text = (data_folder("hwmodels") / "fpga" / "amd-zynq-7020.toml").read_text()
    (own / "my-board.toml").write_text(text)
    (own / "amd-zynq-7020.toml").write_text(text.replace("53200", "53100"))
    assert "my-board" in target_names()
    assert load_target("my-board").name == "my-board"
    target = load_target("amd-zynq-7020")
    assert isinstance(target, FpgaTarget)
    assert target.lut.value == 53100
