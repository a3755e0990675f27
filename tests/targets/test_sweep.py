"""Any number of any hardware model can be swept, and nothing else changes."""

from __future__ import annotations

import pytest

from lepton_dse.errors import InvalidTargetError
from lepton_dse.targets import load_target, target_names, with_numbers
from lepton_dse.targets.schema import SourceKind


@pytest.mark.parametrize("name", target_names())
def test_every_number_can_be_swept(name: str) -> None:
    target = load_target(name)
    for path, quantity in target.quantities():
        value = quantity.value * (1 + 2**-30)
        try:
            changed = with_numbers(target, {path: value})
        except InvalidTargetError:  # two levels of one size, say: a little more breaks their order, a little less does not
            value = quantity.value * (1 - 2**-30)
            changed = with_numbers(target, {path: value})
        numbers, before = dict(changed.quantities()), dict(target.quantities())
        assert numbers[path].value == value
        assert changed.sources[numbers[path].source].kind is SourceKind.DEFINITION
        assert {key: entry for key, entry in numbers.items() if key != path} == {k: e for k, e in before.items() if k != path}
        assert path in changed.name
    assert with_numbers(target, {}) == target


@pytest.mark.parametrize(
    ("numbers", "message"),
    [({"array_row": 3}, "array_row"), ({"levels[vmem].capacity_bytes": 1e30}, "larger"), ({"clock_hz": 0}, "greater than 0")],
)
def test_numbers_that_make_no_device_are_refused(numbers: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidTargetError, match=message):
        with_numbers(load_target("google-tpu-v5e"), numbers)
