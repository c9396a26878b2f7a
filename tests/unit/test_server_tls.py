"""A certificate and its key: checked before anything listens, and named when they are wrong."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from physicsrunner.errors import ConfigError
from physicsrunner.server import tls
from tests.support.certificates import locked_key, self_signed


def test_a_good_pair_says_its_names(tmp_path: Path) -> None:
    """The server calls itself by a name that its certificate has."""
    pair = self_signed(tmp_path, "flow.example.org", "127.0.0.1")
    found = tls.load(pair.cert, pair.key, now=time.time())
    assert found is not None
    assert set(found.names) == {"flow.example.org", "127.0.0.1"}
    assert found.self_signed
    assert found.warnings == ()
    assert found.host_for("127.0.0.1") == "127.0.0.1"
    assert found.host_for("10.1.2.3") == "flow.example.org"


def test_without_files_there_is_no_tls() -> None:
    """No setting, no https."""
    assert tls.load(None, None, now=0.0) is None


@pytest.mark.parametrize(
    ("cert", "key", "words"),
    [
        ("server.pem", None, ["tls_cert is set and tls_key is not"]),
        (None, "server.key", ["tls_key is set and tls_cert is not"]),
        ("absent.pem", "server.key", ["the certificate", "absent.pem", "No such file"]),
        ("server.pem", "absent.key", ["the key", "absent.key"]),
        ("server.pem", ".", ["the key", "Is a directory"]),
        ("server.key", "server.key", ["server.key holds no certificate", "PEM"]),
        ("server.pem", "server.pem", ["server.pem holds no private key"]),
        ("server.pem", "other.key", ["do not fit together", "key values mismatch"]),
        ("server.pem", "locked.key", ["locked.key has a password"]),
        ("server.pem", "broken.key", ["do not fit together"]),
        ("empty", "server.key", ["empty holds no certificate"]),
    ],
)
def test_wrong_files_are_named(
    tmp_path: Path, cert: str | None, key: str | None, words: list[str]
) -> None:
    """Whoever reads the error knows which file, and what to give in its place."""
    self_signed(tmp_path, "localhost")
    self_signed(tmp_path, "localhost", stem="other")
    locked_key(tmp_path / "locked.key")
    (tmp_path / "empty").write_text("")
    begin, end = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
    (tmp_path / "broken.key").write_text(f"{begin}\nAAAA\n{end}\n")
    with pytest.raises(ConfigError) as caught:
        tls.load(
            None if cert is None else tmp_path / cert,
            None if key is None else tmp_path / key,
            now=0.0,
        )
    for word in words:
        assert word in str(caught.value)


def test_what_is_wrong_but_works_is_said(tmp_path: Path) -> None:
    """A certificate that has run out, and a key that all can read."""
    pair = self_signed(tmp_path, "localhost", days=-1)
    pair.key.chmod(0o644)
    found = tls.load(pair.cert, pair.key, now=time.time())
    assert found is not None
    assert "chmod 600" in found.warnings[0]
    assert "has run out" in found.warnings[1]
