"""
What a PhysicsWorks server says a run is, as our lease and as the files of ``inputs/``. Pure.

Promises: a server's document that lacks parts is read as if they were empty; nothing in it is
taken for a path but names that the download stage checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from physicsrunner.wire import physicsworks as wire
from physicsrunner.wire.messages import Bundle, LeaseGrant, RemoteInput

UNKNOWN_SIZE: Final = -1  #: of an input on this wire, which names neither sizes nor digests
LEASE_S: Final = 60.0  # this wire has no deadline; ours stays ahead of the heartbeat


@dataclass(frozen=True)
class PhysicsWorksTarget:
    """What config.json says of the run's place. All but the ids may be missing."""

    project: str
    simulation: str
    owner: str | None = None
    job: str | None = None
    inputs_archive: bool = True  #: config.json has ``inputsArchive``
    run: str | None = None  #: ``resource.id``: the run was made before this start

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PhysicsWorksTarget:
        """Read the keys of config.json that this wire uses."""
        resource = config.get("resource")
        run = resource.get("id") if isinstance(resource, Mapping) else None
        return cls(
            project=str(config["project"]),
            simulation=str(config["simulation"]),
            owner=_text(config.get("owner")),
            job=_text(config.get("job")),
            inputs_archive="inputsArchive" in config,
            run=_text(run),
        )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def grant(
    data: Mapping[str, Any],
    target: PhysicsWorksTarget,
    *,
    run: str,
    name: str,
    token: str,
    now: float,
) -> LeaseGrant:
    """Return the lease that the server's answer *data* to ``run_data/read`` means."""
    feature, simulation = mapping(data.get("physicsFeature")), mapping(data.get("simulation"))
    scripts, archive = feature.get("scripts"), feature.get("inputs")
    inputs = [
        RemoteInput(f"raw/{mesh['id']}.{extension}", UNKNOWN_SIZE, "", _stored_url(file))
        for mesh, file, extension in _meshes(simulation)
    ]
    if archive and target.inputs_archive:
        url = _stored_url(str(archive))
        inputs.append(RemoteInput("inputs.zip", UNKNOWN_SIZE, "", url, extract=True))
    bundle = None
    if scripts:
        bundle = Bundle(target.simulation, "", UNKNOWN_SIZE, "", _stored_url(str(scripts)))
    return LeaseGrant(
        run=run,
        attempt=1,
        number=0,
        name=name,
        deadline=now + LEASE_S,
        renew_s=wire.HEARTBEAT_S,
        token=token,
        bundle=bundle,
        inputs=inputs,
        parameters=_parameters(data.get("inputs")),
        project=target.project,
        model=target.simulation,
    )


def documents(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON files that the download stage leaves in ``inputs/``, by name."""
    feature, simulation = mapping(data.get("physicsFeature")), mapping(data.get("simulation"))
    return {
        "variants.json": _variants(data.get("materials")),
        "workbench.json": simulation.get("tree") or {},
        "runInputs.json": data.get("inputs") or [],
        "config.json": {"withCompression": False},
        "solverConfig.json": feature.get("config") or {},
    }


def mapping(value: Any) -> Mapping[str, Any]:
    """Return *value* if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _stored_url(file: str) -> str:
    return wire.stored_file(quote(file, safe=""))


def _meshes(simulation: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str, str]]:
    for mesh in simulation.get("meshes") or ():
        if isinstance(mesh, Mapping) and mesh.get("id") and mesh.get("rawMeshFile"):
            file = str(mesh["rawMeshFile"])
            yield mesh, file, file.rsplit(".", 1)[-1]


def _parameters(inputs: Any) -> dict[str, Any]:
    """Return the flat inputs as parameters: slug -> value; the first of a slug wins."""
    found: dict[str, Any] = {}
    for item in inputs if isinstance(inputs, list) else ():
        if isinstance(item, Mapping) and isinstance(item.get("slug"), str):
            found.setdefault(item["slug"], item.get("value"))
    return found


def _variants(materials: Any) -> dict[str, Any]:
    """Return the materials by id, each as its composition and its variant."""
    found: dict[str, Any] = {}
    for material in materials if isinstance(materials, list) else ():
        if not isinstance(material, Mapping):
            continue
        known = material.get("id")
        variant = {key: value for key, value in material.items() if key != "composition"}
        variant["properties"] = [
            _property(item, known)
            for item in material.get("properties") or ()
            if isinstance(item, Mapping)
        ]
        composition = material.get("composition") or {}
        found[str(known)] = {"composition": composition, "variant": variant}
    return found


def _property(item: Mapping[str, Any], material: Any) -> dict[str, Any]:
    values = item.get("values") or []
    if item.get("type") == "SingleValue" and values and isinstance(values[0], Mapping):
        return {**item, "variantId": material, "value": values[0].get("y")}
    return {**item, "variantId": material, "values": values}
