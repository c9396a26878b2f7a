"""
The systemd units of agent and server, as texts.

Promises: what they start is this installation; ``systemd-analyze verify`` accepts them. Stopping
the agent's unit never kills a solver (``KillMode=process``): the next start takes it up again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_AGENT = """\
# physicsrunner agent: save as /etc/systemd/system/physicsrunner-agent.service, then
#   systemctl daemon-reload && systemctl enable --now physicsrunner-agent
[Unit]
Description=physicsrunner agent: carries out runs of a physicsrunner server
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
User={user}
# The first signal drains (--on-term). What still runs after the time below runs on by itself, and
# the next start of the agent takes it up again.
KillMode=process
TimeoutStopSec=30
WatchdogSec=120
Restart=on-failure
RestartSec=5
# Refused by the server (5), used wrongly (2): starting again would not help.
RestartPreventExitStatus=2 5
TasksMax=infinity
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""

_SERVER = """\
# physicsrunner server: save as /etc/systemd/system/physicsrunner-server.service, then
#   systemctl daemon-reload && systemctl enable --now physicsrunner-server
[Unit]
Description=physicsrunner server: queue, files and live feed
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStart={command}
User={user}
TimeoutStopSec=30
Restart=on-failure
RestartSec=5
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""


def agent_unit(arguments: Sequence[str], user: str) -> str:
    """Return the unit of ``physicsrunner agent ARGUMENTS`` as *user*."""
    return _AGENT.format(command=_command("agent", arguments), user=user)


def server_unit(arguments: Sequence[str], user: str) -> str:
    """Return the unit of ``physicsrunner server ARGUMENTS`` as *user*."""
    return _SERVER.format(command=_command("server", arguments), user=user)


def _command(name: str, arguments: Sequence[str]) -> str:
    words = [sys.executable, "-m", "physicsrunner", name, *arguments]
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    """Return *word* so that systemd reads it as one argument (systemd.service(5))."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if not escaped or set(escaped) & set(" \t'\";") else escaped
