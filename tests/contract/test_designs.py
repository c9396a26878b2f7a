"""The client of the design service, against a real HTTP service that answers in every bad way."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from physicsrunner.errors import (
    BadDesign,
    ConfigError,
    DesignServiceAway,
    InvalidRequest,
    NoSuchDesign,
)
from physicsrunner.service.designs import LIMIT, MAX_BYTES, OPEN_S, DesignService, Patience
from tests.contract.architech_house import BRIDGE, designs
from tests.support.design_service import keep_design


class Bench:
    """A client whose clock stands still but for its own pauses, and the service's folder."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.time = 0.0
        self.pauses: list[float] = []
        self.client = self.of(url)

    def of(self, url: str, **more: Any) -> DesignService:
        """Return a client of another address, or of another patience."""
        patience = Patience(**{"connect_s": 5.0, "read_s": 5.0, **more})
        return DesignService(
            url, now=lambda: self.time, sleep=self._sleep, random=lambda: 1.0, patience=patience
        )

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds

    def mode(self, text: str) -> None:
        """Have the service answer so."""
        (self.folder / "mode").write_text(text)

    @property
    def asked(self) -> list[str]:
        """What the service was asked for."""
        file = self.folder / "asked"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    folder = tmp_path / "designs"
    with designs(folder) as url:
        yield Bench(url, folder)


def test_a_design(bench: Bench) -> None:
    """What the service has under that id, from the address that the setting says."""
    keep_design(bench.folder, "a b/ü", {"n": 1})
    assert bench.client.get("bridge-7") == BRIDGE
    assert bench.client.get("a b/ü") == {"n": 1}
    keep_design(bench.folder, "spec?of=bridge-7", {"n": 2})
    templated = bench.of(f"{bench.url}/v2/spec?of={{design_id}}&x=1")
    keep_design(bench.folder, "spec?of=bridge-7&x=1", {"n": 2})
    assert templated.get("bridge-7") == {"n": 2}
    assert bench.asked == [
        "/designs/bridge-7",
        "/designs/a%20b%2F%C3%BC",
        "/v2/spec?of=bridge-7&x=1",
    ]


@pytest.mark.parametrize(
    "design_id", ["../admin", "..%2fadmin", "%2e%2e", "x/../../y", "a?b#c", "@h"]
)
def test_an_id_is_one_segment_of_the_path(bench: Bench, design_id: str) -> None:
    """It leads to no other address of the service, and to no other host."""
    with pytest.raises(NoSuchDesign):
        bench.client.get(design_id)
    (path,) = bench.asked
    assert path.startswith("/designs/")
    assert path.count("/") == 2
    assert "?" not in path


@pytest.mark.parametrize(
    "design_id", ["", " ", ".", "..", "x" * 91, "a\nb", "a\x00", "\ud800", 7, None]
)
def test_what_cannot_be_an_id_is_never_asked_for(bench: Bench, design_id: Any) -> None:
    """It is refused before the service hears of it."""
    with pytest.raises(InvalidRequest, match="design_id"):
        bench.client.get(design_id)
    assert bench.asked == []


@pytest.mark.parametrize("status", ["500", "502", "503", "429"])
def test_it_is_asked_again(bench: Bench, status: str) -> None:
    """Twice it cannot, then it can; the pauses grow."""
    bench.mode(f"first 2 {status}")
    assert bench.client.get("bridge-7") == BRIDGE
    assert bench.pauses == [0.25, 0.5]


def test_a_service_that_stays_away(bench: Bench) -> None:
    """After three tries the caller is told; after three callers nobody asks for a while."""
    bench.mode("503")
    for _ in range(LIMIT):
        with pytest.raises(DesignServiceAway, match=r"127\.0\.0\.1:\d+ answered 503$"):
            bench.client.get("bridge-7")
    assert len(bench.asked) == 3 * LIMIT
    with pytest.raises(DesignServiceAway, match="left alone for 10 s") as refused:
        bench.client.get("bridge-7")
    assert refused.value.retry_after == OPEN_S
    assert len(bench.asked) == 3 * LIMIT
    bench.mode("ok")
    bench.time += OPEN_S
    assert bench.client.get("bridge-7") == BRIDGE
    assert bench.client.get("bridge-7") == BRIDGE


def test_it_waits_as_long_as_the_service_asks(bench: Bench) -> None:
    """Retry-After is a lower bound; if it is longer than our patience, the caller is told it."""
    bench.mode("429 3")
    with pytest.raises(DesignServiceAway) as refused:
        bench.client.get("bridge-7")
    assert (bench.pauses, refused.value.retry_after) == ([3.0, 3.0], 3.0)
    bench.mode("503 3600")
    with pytest.raises(DesignServiceAway) as refused:
        bench.client.get("bridge-7")
    assert (len(bench.pauses), refused.value.retry_after) == (2, 3600.0)


def test_nobody_there(bench: Bench) -> None:
    """A refused connection is an absent service, and no password of the setting is told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = bench.of(f"http://me:secret@127.0.0.1:{port}/api/")
    with pytest.raises(DesignServiceAway, match="cannot be reached") as refused:
        client.get("bridge-7")
    assert "secret" not in str(refused.value)
    assert len(bench.pauses) == 2


def test_a_service_that_hangs(bench: Bench) -> None:
    """It is waited for as long as our patience says."""
    bench.mode("hang")
    with pytest.raises(DesignServiceAway, match="in time"):
        bench.of(bench.url, read_s=0.1, tries=1).get("bridge-7")


def test_a_service_that_drips(bench: Bench) -> None:
    """A byte now and then does not keep us beyond the whole time."""
    bench.mode("drip")
    client = bench.of(bench.url, tries=1, total_s=0.5)
    ticks = iter(range(1_000_000))
    client._now = lambda: next(ticks) * 0.05
    with pytest.raises(DesignServiceAway, match="too slowly"):
        client.get("bridge-7")


def test_an_answer_that_is_cut(bench: Bench) -> None:
    """Fewer bytes than were promised are an absent service, and not a short design."""
    bench.mode("cut")
    with pytest.raises(DesignServiceAway, match="cut the line"):
        bench.of(bench.url, tries=1).get("bridge-7")


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("text <html>we are fine</html>", "no JSON"),
        ("text [1, 2]", "no JSON object"),
        ("text null", "no JSON object"),
        ('text {"a": NaN}', "NaN is not a number"),
        ('text {"a": 1e999}', "1e999 is not a number"),
        ('text {"b": -Infinity}', "not a number"),
        ("text " + "[" * 5000, "no JSON"),
        ("text " + '{"a":' * 100 + "1" + "}" * 100, "no JSON"),
        (f"huge {MAX_BYTES}", "over 4194304 bytes"),
        ("redirect http://169.254.169.254/latest", "302 with a redirection"),
        ("401", "answered 401"),
        ("418", "answered 418"),
    ],
)
def test_nonsense(bench: Bench, mode: str, said: str) -> None:
    """It is refused at once, and the service counts as one that answers."""
    bench.mode(mode)
    for _ in range(LIMIT + 1):
        with pytest.raises(BadDesign, match=said):
            bench.client.get("bridge-7")
    assert bench.pauses == []
    assert len(bench.asked) == LIMIT + 1


def test_a_query_of_the_address_is_sent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id stands where the address says, or else behind the path and not behind the query."""
    sent: list[str] = []

    def noted(_session: requests.Session, address: str, **_more: Any) -> None:
        sent.append(address)
        raise requests.ConnectionError

    monkeypatch.setattr(requests.Session, "get", noted)
    for url in ("http://h/a/{design_id}?v=2", "http://h/a/?v=2", "http://h/?id={design_id}&v=2"):
        with pytest.raises(DesignServiceAway) as caught:
            bench.of(url, tries=1).get("b/7")
        assert "v=2" not in str(caught.value)
    assert sent == [
        "http://h/a/b%2F7?v=2",
        "http://h/a/designs/b%2F7?v=2",
        "http://h/?id=b%2F7&v=2",
    ]


@pytest.mark.parametrize(
    "url", ["ftp://host", "host", "http://", "http://host:x/", "http://{design_id}.host/x", ""]
)
def test_an_address_that_is_none(bench: Bench, url: str) -> None:
    """It is refused before anything is asked for; a caller can never name the host."""
    with pytest.raises(ConfigError, match="architech_design_url"):
        bench.of(url)
