"""People: made, changed, shown."""

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

Reader = Annotated[Identity, Allowed("users:read")]
Creator = Annotated[Identity, Allowed("users:create")]
Changer = Annotated[Identity, Allowed("users:update")]
PasswordSetter = Annotated[Identity, Allowed("users:password")]

_USER = f"{rest.USERS}/{{name}}"
_SHAPE = {
    "name": str,
    "role": str,
    "disabled": bool,
    "locked": bool,
    "has_password": bool,
    "created_at": float,
    "last_login": float,
}
_EXAMPLE = {
    "name": "ada",
    "role": "user",
    "disabled": False,
    "locked": False,
    "has_password": True,
    "created_at": 1767225600.0,
}


@dataclass(frozen=True)
class NewUser:
    """Asks for a person."""

    name: str
    role: str | None = None  #: for the whole server; None: only what projects give
    password: str | None = None


@dataclass(frozen=True)
class NewPassword:
    """Asks for another password."""

    password: str
    old: str | None = None  #: needed where it is one's own


@router.get(
    rest.USERS, summary="List people", responses=gives({"data": [_SHAPE]}, {"data": [_EXAMPLE]})
)
async def list_users(who: Reader, parts: Shared) -> Response:
    """List all people, or oneself where one may not see others."""
    return answer({"data": await to_thread.run_sync(parts.services.accounts.users, who)})


@router.post(
    rest.USERS,
    status_code=201,
    summary="Make a person",
    openapi_extra=takes(
        {"name": str, "role": str, "password": str}, {"name": "ada", "role": "user"}
    ),
    responses=gives(_SHAPE, _EXAMPLE, status=201),
)
async def add(request: Request, who: Creator, parts: Shared) -> Response:
    """Make a person with a role for the whole server, or none; 409 when the name is taken."""
    asked = await message(request, NewUser)
    make = parts.services.accounts.add_user
    return answer(await to_thread.run_sync(make, who, asked.name, asked.role, asked.password), 201)


@router.get(_USER, summary="Show a person", responses=gives(_SHAPE, _EXAMPLE))
async def show(name: str, who: Reader, parts: Shared) -> Response:
    """Show one person."""
    return answer(await to_thread.run_sync(parts.services.accounts.user, who, name))


@router.patch(
    _USER,
    summary="Change a person",
    openapi_extra=takes({"role": str, "disabled": bool, "unlock": bool}, {"disabled": True}),
    responses=gives(_SHAPE, {**_EXAMPLE, "disabled": True}),
)
async def change(request: Request, name: str, who: Changer, parts: Shared) -> Response:
    """Change the role (null: none), disable or enable, lift a lock-out. It counts at once."""
    body = await json_of(request)
    _check(body)

    def work() -> Any:
        return parts.services.accounts.change_user(
            who,
            name,
            role=body.get("role", UNCHANGED),
            disabled=body.get("disabled"),
            unlock=body.get("unlock") is True,
        )

    return answer(await to_thread.run_sync(work))


@router.put(
    f"{_USER}/password",
    summary="Set a password",
    openapi_extra=takes(
        {"password": str, "old": str}, {"password": "correct horse battery", "old": "..."}
    ),
    responses=gives({"name": str}, {"name": "ada"}),
)
async def password(request: Request, name: str, who: PasswordSetter, parts: Shared) -> Response:
    """Set one's own password, or as admin anybody's; other logins of that person end."""
    asked = await message(request, NewPassword)

    def work() -> None:
        parts.services.accounts.set_password(who, name, asked.password, old=asked.old)

    await to_thread.run_sync(work)
    return answer({"name": name})


def _check(body: Any) -> None:
    if not isinstance(body, dict) or not body or set(body) - {"role", "disabled", "unlock"}:
        raise InvalidRequest("a person is changed by {role?, disabled?, unlock?}")
    for name in ("disabled", "unlock"):
        if not isinstance(body.get(name, False), bool):
            raise InvalidRequest(f"{name} is true or false")
