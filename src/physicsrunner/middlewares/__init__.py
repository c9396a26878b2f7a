"""
Guards for users' own web applications: Flask, FastAPI, Starlette, and what is like them.

Examples
--------
>>> from physicsrunner.middlewares import auth_guard, configure, permission_guard
>>> configure(server="http://127.0.0.1:3011")                            # doctest: +SKIP
>>> @auth_guard                                                          # doctest: +SKIP
... def protected_route(request):
...     return request.current_user.name
>>> @permission_guard("resource:write")                                  # doctest: +SKIP
... def admin_route(request):
...     ...

Needs the base install alone; a framework is used only where the application has imported it.
"""

from __future__ import annotations

from physicsrunner.middlewares.guards import auth_guard, permission_guard
from physicsrunner.middlewares.user import CurrentUser
from physicsrunner.middlewares.verify import configure

__all__ = ["CurrentUser", "auth_guard", "configure", "permission_guard"]
