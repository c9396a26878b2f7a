"""Cases: what saving other values does to a model, and what it costs."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.errors import Conflict
from physicsrunner.service.cases import SAVED, SavedCase
from physicsrunner.service.models import bundle_version
from tests.contract.service_house import House, open_house

BIG = b"".join(b"%d," % (number * number) for number in range(20_000))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Give the services of a server."""
    opened = open_house(tmp_path)
    yield opened
    opened.services.close()


def model(house: House, name: str, files: Mapping[str, bytes] | None = None) -> str:
    """Keep a bundle that is packed as no other is; return the model's id."""
    path = house.folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bundle:
        bundle.writestr("main.py", b"print(1)")
        for file, data in (files or {}).items():
            bundle.writestr(file, data)
        bundle.writestr("mesh.dat", BIG)
    return house.services.models.add(house.admin, path, name).id


def save(house: House, key: str, **values: Any) -> SavedCase:
    """Save values on top of those that are there, a second later."""
    house.clock.move(1)
    cases = house.services.cases
    return cases.save(house.admin, key, lambda case: {**case.parameters, **values})


def packed(path: Path) -> dict[str, bytes]:
    """Return the members of a zip as they lie in it."""
    with zipfile.ZipFile(path) as bundle, path.open("rb") as file:
        found = {}
        for info in bundle.infolist():
            file.seek(info.header_offset + 26)
            lengths = file.read(4)
            skip = int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
            file.seek(skip, 1)
            found[info.filename] = file.read(info.compress_size)
    return found


@pytest.mark.parametrize("before", [{}, {SAVED: b"mine"}, {SAVED: b"x" * 99_999}])
def test_a_save_copies_the_bundle_and_packs_nothing_again(
    house: House, before: dict[str, bytes]
) -> None:
    """All but the saved file is as it was, byte for byte, and the version says what is in it."""
    key = model(house, "plate", before)
    content = house.services.models.content
    first = packed(content(house.services.cases.get(house.admin, key).row.version))
    sizes = []
    for number in range(1, 5):
        saved = save(house, key, steps=number)
        bundle = content(saved.row.version)
        now = packed(bundle)
        assert {**now, SAVED: b""} == {**first, SAVED: b""}
        assert (saved.row.version, saved.revision) == (bundle_version(bundle), number)
        assert saved.parameters == {"steps": number}
        with zipfile.ZipFile(bundle) as opened:
            assert opened.testzip() is None
        sizes.append(bundle.stat().st_size)
    assert max(sizes) == min(sizes)  # nothing of those before is left in it


def test_one_model_does_not_wait_for_another(house: House) -> None:
    """A save that takes long holds up none of another model."""
    slow, other = model(house, "slow"), model(house, "other", {"a.txt": b"a"})
    begun, go_on = threading.Event(), threading.Event()

    def change(case: SavedCase) -> dict[str, Any]:
        begun.set()
        assert go_on.wait(30)
        return {**case.parameters, "a": 1}

    cases = house.services.cases
    first = threading.Thread(target=cases.save, args=(house.admin, slow, change))
    first.start()
    try:
        assert begun.wait(30)
        elsewhere = threading.Thread(target=save, args=(house, other), kwargs={"c": 3})
        elsewhere.start()
        elsewhere.join(30)
        assert not elsewhere.is_alive()
    finally:
        go_on.set()
        first.join()
    assert cases.get(house.admin, slow).parameters == {"a": 1}
    assert cases.get(house.admin, other).parameters == {"c": 3}


def test_a_model_that_came_with_us_is_not_changed(house: House) -> None:
    """It would get no newer version any more; the error says what to do instead."""
    ours = house.services.packaged.model(house.admin, "heat")
    for key in (ours.id, "heat"):
        with pytest.raises(Conflict, match="upload a copy of it under another name"):
            save(house, key, points=7)
    row = house.services.cases.get(house.admin, "heat").row
    assert row.version == ours.version
    key = house.services.models.add(
        house.admin, house.services.models.content(ours.version), "my heat"
    ).id
    assert save(house, key, points=7).parameters["points"] == 7
