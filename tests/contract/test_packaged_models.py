"""Models that a setting names: the users' own first, else the packaged case of that name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from physicsrunner.core.run import NewRun
from physicsrunner.errors import NotAllowed, NotFound
from physicsrunner.service import packaged
from physicsrunner.service.packaged import PACKAGED_BY, PackagedModels
from tests.contract.service_house import House, make_zip, open_house


@pytest.fixture(params=["sqlite", "memory"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """Give the services of a server."""
    opened = open_house(tmp_path, url="memory:" if request.param == "memory" else None)
    yield opened
    opened.services.close()


def own_version(house: House, name: str, text: str, case: str = "name: mine\n") -> str:
    house.clock.move(1)
    files = {"main.py": text, "case.yaml": case}
    packed = make_zip(house.folder / f"{len(text)}.zip", files)
    return house.services.models.add(house.admin, packed, name).version


def anew(house: House) -> PackagedModels:
    """Return what the next start of the server has."""
    services = house.services
    return PackagedModels(services._store, services.models, services.access, services.scratch)


def test_a_packaged_case_becomes_a_model_once(house: House) -> None:
    """Its defaults come along; whoever asks gets the same version, and can run it."""
    ada = house.user("ada")
    found = house.services.packaged.model(ada, "heat")
    assert (
        found
        == house.services.packaged.model(house.admin, "heat")
        == anew(house).model(ada, "heat")
    )
    assert found.parameters["points"] == 201
    assert [row.created_by for row in house.services._store.models()] == [PACKAGED_BY]
    run = house.services.runs.create(ada, NewRun(model_id=found.id, model_version=found.version))
    assert (run.model_id, run.model_version) == (found.id, found.version)


def test_a_model_of_the_users_wins(house: House) -> None:
    """By its name or its id, in the newest version; what came with us is not put over it."""
    mine = own_version(house, "heat", "print(1)", "parameters: {a: 1}\n")
    found = house.services.packaged.model(house.admin, "heat")
    assert (found.version, dict(found.parameters)) == (mine, {"a": 1})
    newer = own_version(house, "heat", "print(12)")
    for asked in (house.services.packaged, anew(house)):
        assert asked.model(house.admin, "heat").version == newer
        assert asked.model(house.admin, found.id).version == newer


def test_a_version_of_the_users_wins_over_the_packaged_one(house: House) -> None:
    """Also when the packaged one was there first."""
    ours = house.services.packaged.model(house.admin, "heat")
    mine = own_version(house, "heat", "print(1)")
    for asked in (house.services.packaged, anew(house)):
        found = asked.model(house.admin, "heat")
        assert (found.id, found.version) == (ours.id, mine)


def test_a_newer_physicsrunner_brings_its_version(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first use after the upgrade, as a version of the same model."""
    old = house.services.packaged.model(house.admin, "heat")

    class Newer:
        folder = tmp_path / "newer"

    Newer.folder.mkdir()
    (Newer.folder / "main.py").write_text("print('newer')\n")
    house.clock.move(1)
    monkeypatch.setattr(packaged, "EXAMPLES", {"heat": Newer})
    new = anew(house).model(house.admin, "heat")
    assert new.id == old.id
    assert new.version != old.version
    assert dict(new.parameters) == {}


def test_a_name_that_is_none_says_what_there_is(house: House) -> None:
    """Whoever set it reads what to do."""
    with pytest.raises(NotFound, match=r"no model 'hea'.*upload it, or change the setting.*cavity"):
        house.services.packaged.model(house.admin, "hea")


def test_who_may_not_run_gets_none(house: House) -> None:
    """A viewer looks on."""
    with pytest.raises(NotAllowed):
        house.services.packaged.model(house.user("eve", "viewer"), "heat")
