"""Projects and their members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from physicsrunner.errors import InvalidRequest
from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import answer, json_of, message
from physicsrunner.server.openapi import gives, takes
from physicsrunner.server.parts import Shared
from physicsrunner.service.access import Identity
from physicsrunner.service.accounts import UNCHANGED
from physicsrunner.wire import rest

router = APIRouter(tags=["access"])

Reader = Annotated[Identity, Allowed("projects:read")]
Creator = Annotated[Identity, Allowed("projects:create")]
Changer = Annotated[Identity, Allowed("projects:update")]
MemberReader = Annotated[Identity, Allowed("members:read")]
MemberWriter = Annotated[Identity, Allowed("members:write")]

_PROJECT = f"{rest.PROJECTS}/{{project}}"
_MEMBER = f"{_PROJECT}/members/{{user}}"
_SHAPE = {
    "id": str,
    "name": str,
    "created_by": str,
    "created_at": float,
    "max_concurrent_runs": int,
    "role": str,
}
_EXAMPLE = {
    "id": "thermal",
    "name": "Thermal group",
    "created_by": "ada",
    "created_at": 1767225600.0,
    "max_concurrent_runs": 4,
    "role": "admin",
}
_MEMBER_SHAPE = {"project_id": str, "user": str, "role": str}
_MEMBER_EXAMPLE = {"project_id": "thermal", "user": "ben", "role": "user"}


@dataclass(frozen=True)
class NewProject:
    """Asks for a project."""

    id: str
    name: str | None = None
    max_concurrent_runs: int | None = None


@dataclass(frozen=True)
class Membership:
    """Asks for a role in a project."""

    role: str


@router.get(
    rest.PROJECTS,
    summary="List projects",
    responses=gives({"data": [_SHAPE]}, {"data": [_EXAMPLE]}),
)
async def list_projects(who: Reader, parts: Shared) -> Response:
    """List the projects that the caller may see, with the caller's role in each."""
    return answer({"data": await to_thread.run_sync(parts.services.accounts.projects, who)})


@router.post(
    rest.PROJECTS,
    status_code=201,
    summary="Make a project",
    openapi_extra=takes(
        {"id": str, "name": str, "max_concurrent_runs": int},
        {"id": "thermal", "max_concurrent_runs": 4},
    ),
    responses=gives(_SHAPE, _EXAMPLE, status=201),
)
async def add(request: Request, who: Creator, parts: Shared) -> Response:
    """Make a project; who makes it is its first admin."""
    asked = await message(request, NewProject)

    def work() -> Any:
        return parts.services.accounts.add_project(
            who, asked.id, asked.name, asked.max_concurrent_runs
        )

    return answer(await to_thread.run_sync(work), 201)


@router.get(_PROJECT, summary="Show a project", responses=gives(_SHAPE, _EXAMPLE))
async def show(project: str, who: Reader, parts: Shared) -> Response:
    """Show one project."""
    return answer(await to_thread.run_sync(parts.services.accounts.project, who, project))


@router.patch(
    _PROJECT,
    summary="Change a project",
    openapi_extra=takes({"name": str, "max_concurrent_runs": int}, {"max_concurrent_runs": 8}),
    responses=gives(_SHAPE, {**_EXAMPLE, "max_concurrent_runs": 8}),
)
async def change(request: Request, project: str, who: Changer, parts: Shared) -> Response:
    """Change its title, or how many of its runs may run at the same time (null: any number)."""
    body = await json_of(request)
    if not isinstance(body, dict) or not body or set(body) - {"name", "max_concurrent_runs"}:
        raise InvalidRequest("a project is changed by {name?, max_concurrent_runs?}")
    if not isinstance(body.get("name", ""), str):
        raise InvalidRequest("name is a text")

    def work() -> Any:
        return parts.services.accounts.change_project(
            who,
            project,
            name=body.get("name"),
            cap=body.get("max_concurrent_runs", UNCHANGED),
        )

    return answer(await to_thread.run_sync(work))


@router.get(
    f"{_PROJECT}/members",
    summary="List the members of a project",
    responses=gives({"data": [_MEMBER_SHAPE]}, {"data": [_MEMBER_EXAMPLE]}),
)
async def members(project: str, who: MemberReader, parts: Shared) -> Response:
    """List its members and their roles."""
    return answer({"data": await to_thread.run_sync(parts.services.accounts.members, who, project)})


@router.put(
    _MEMBER,
    summary="Make somebody a member",
    openapi_extra=takes({"role": str}, {"role": "user"}),
    responses=gives(_MEMBER_SHAPE, _MEMBER_EXAMPLE),
)
async def set_member(
    request: Request, project: str, user: str, who: MemberWriter, parts: Shared
) -> Response:
    """Make a person a member of the project, or change their role there."""
    asked = await message(request, Membership)
    put = parts.services.accounts.set_member
    return answer(await to_thread.run_sync(put, who, project, user, asked.role))


@router.delete(
    _MEMBER,
    summary="Take somebody out of a project",
    responses=gives({"project_id": str, "user": str, "removed": bool}, {"removed": True}),
)
async def remove_member(project: str, user: str, who: MemberWriter, parts: Shared) -> Response:
    """Take a person out of the project. Their runs there stay with the project."""
    await to_thread.run_sync(parts.services.accounts.remove_member, who, project, user)
    return answer({"project_id": project, "user": user, "removed": True})
