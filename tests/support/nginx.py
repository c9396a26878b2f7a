"""A real nginx on a configuration of ours."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.support.require import require
from tests.support.wait import wait_until


class Nginx:
    """nginx with *text* as its configuration, listening on *port*; `close` ends it."""

    def __init__(self, folder: Path, text: str, port: int) -> None:
        require("nginx")
        folder.mkdir()
        self.log = folder / "error.log"
        places = "".join(
            f"{name}_temp_path {folder / name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = text.replace("http {", f"http {{\naccess_log off;\n{places}", 1)
        config = folder / "nginx.conf"
        config.write_text(text)
        main = f"daemon off; pid {folder / 'pid'}; error_log {self.log};"
        if os.geteuid() == 0:
            main += " user root;"
        path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
        program = shutil.which("nginx", path=path)
        assert program is not None
        argv = [program, "-c", str(config), "-p", str(folder), "-e", str(self.log), "-g", main]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, start_new_session=True, env={"PATH": path}
        )
        wait_until(lambda: self._listens(port), timeout=30.0, on_timeout=self.story)

    def story(self) -> str:
        """Say how it is and what it wrote."""
        text = self.log.read_text() if self.log.exists() else "nothing"
        return f"nginx (exit status {self._process.poll()}) wrote: {text}"

    def close(self) -> None:
        """End it and its workers."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(20)

    def _listens(self, port: int) -> bool:
        assert self._process.poll() is None, self.story()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            return False
        return True
