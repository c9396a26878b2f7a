"""Settings: which source wins, what a wrong one is told, and who may read the file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from physicsrunner.cli.server import options_of
from physicsrunner.config import (
    DEFAULT_SERVER,
    SETTINGS,
    forget,
    load,
    normal_url,
    remember,
    settings_file,
)
from physicsrunner.errors import ConfigError


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with a home of its own and nothing else."""
    return {"HOME": str(tmp_path)}


def write(environ: dict[str, str], text: str) -> Path:
    path = settings_file(environ)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def test_without_anything_the_defaults_hold(environ: dict[str, str], tmp_path: Path) -> None:
    """No file and no variables: this machine's server, and the XDG folders."""
    settings = load(environ)
    assert settings.server == DEFAULT_SERVER
    assert settings.data == tmp_path / ".local/share/physicsrunner"
    assert settings.cache == tmp_path / ".cache/physicsrunner"
    assert settings.work == Path("runs")
    assert settings.token_for(DEFAULT_SERVER) is None
    assert not settings.file.exists()


def test_the_environment_wins_over_the_file(environ: dict[str, str]) -> None:
    """A variable of this shell is meant for now, the file for always."""
    write(environ, "server: http://file:1\nport: 4000\n")
    assert (load(environ).server, load(environ).port) == ("http://file:1", 4000)
    environ["PHYSICSRUNNER_SERVER"] = "https://variable/"
    assert (load(environ).server, load(environ).port) == ("https://variable", 4000)


def test_every_setting_can_be_set_by_its_variable(environ: dict[str, str]) -> None:
    """The table's variables are those that are read."""
    values = {"server": "http://a:1", "host": "0.0.0.0", "port": "5", "data": "/d"}  # noqa: S104
    values |= {"work": "/w", "cache": "/c", "ca": "/ca.pem", "tls_cert": "/a", "tls_key": "/b"}
    values |= {"database": "postgresql+psycopg://u:p@h/n", "nats": "nats://h:4222"}
    values |= {"max_concurrent_runs": "4", "retention_days": "30.5", "retention_runs": "1000"}
    values |= {"lease_s": "30.0", "grace_s": "60.0", "trusted_proxies": "('10.0.0.0/8', '::1')"}
    values |= {"webhook_private": "True", "audit_days": "365.0", "retention_inputs_days": "7.0"}
    values |= {
        "doors": "('physicsworks', 'ath')",
        "door_user": "ada",
        "cors_origins": "('https://a',)",
    }
    values |= {"shakescenario_port": "0", "shakescenario_model": "m", "ath_model": "n"}
    values |= {"ath_max_concurrent_runs": "2", "architech_model": "o", "architech_mapping": "/m"}
    values |= {"architech_design_url": "http://d:1", "shakescenario_folder": "/f"}
    assert set(values) == set(SETTINGS)
    told = {**values, "trusted_proxies": "10.0.0.0/8, ::1", "webhook_private": "yes"}
    told |= {"doors": "ath, physicsworks", "cors_origins": "https://a"}
    for name, value in told.items():
        environ[SETTINGS[name].variable] = value
    settings = load(environ)
    for name, value in values.items():
        assert str(getattr(settings, name)) == value
        assert SETTINGS[name].variable.startswith("PHYSICSRUNNER_")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://d:1/designs/{design_id}?v=2&key=SECRET", None),
        ("https://d/api/?id={design_id}", None),
        ("https://d/Api/", None),
        (" d:1/x?v=2 ", "http://d:1/x?v=2"),
    ],
)
def test_the_address_of_designs_is_kept_as_it_stands(
    environ: dict[str, str], given: str, kept: str | None
) -> None:
    """The id's place may be in its query, which may hold a key: no repr shows it."""
    environ["PHYSICSRUNNER_ARCHITECH_DESIGN_URL"] = given
    settings = load(environ)
    assert settings.architech_design_url == (kept or given)
    options = options_of(settings)
    assert options.architech_design_url == (kept or given)
    assert "SECRET" not in repr(settings) + repr(options)


def test_xdg_folders_count_only_when_absolute(environ: dict[str, str], tmp_path: Path) -> None:
    """The XDG specification has relative paths ignored."""
    environ |= {"XDG_CONFIG_HOME": "relative", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert settings_file(environ) == tmp_path / ".config/physicsrunner/config.yaml"
    assert load(environ).cache == tmp_path / "cache/physicsrunner"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sever: http://a:1", ["'sever'", "did you mean 'server'?"]),
        ("port: many", ["'port'", "'many'", "0 to 65535"]),
        ("port: 70000", ["'port'", "'70000'"]),
        ("port: true", ["'port'", "bool"]),
        ("server: ftp://a", ["'server'", "'ftp://a'", "http://HOST:PORT"]),
        ("server: http://user:pass@a", ["'server'", "user name"]),
        ("data: ''", ["'data'", "path of a folder"]),
        ("host: 1/2", ["'host'", "listen on"]),
        ("database: mysql://a:SECRET@b/c", ["'database'", "mysql", "postgresql://"]),
        ("database: SECRET", ["'database'", "no address"]),
        ("nats: http://a:SECRET@b", ["'nats'", "nats://HOST:4222"]),
        ("max_concurrent_runs: 0", ["'max_concurrent_runs'", "from 1"]),
        ("max_concurrent_runs: 1.5", ["'max_concurrent_runs'", "whole number"]),
        ("retention_days: -1", ["'retention_days'", "over 0"]),
        ("lease_s: nan", ["'lease_s'", "over 0"]),
        ("trusted_proxies: 127.0.0.1; 10.0.0.1", ["'trusted_proxies'", "commas"]),
        ("doors: [ath, attic]", ["'doors'", "'attic'", "shakescenario"]),
        ("doors: [ath, '-']", ["'doors'", "'-'", "none"]),
        ("cors_origins: '*'", ["'cors_origins'", "https://HOST"]),
        ("cors_origins: https://a/path", ["'cors_origins'", "no path"]),
        ("architech_design_url: ftp://SECRET", ["'architech_design_url'", "http://HOST:PORT"]),
        ("architech_design_url: http://a:SECRET/b", ["'architech_design_url'", "no address"]),
        ("architech_design_url: http://a?k=SECRET d", ["'architech_design_url'", "no address"]),
        ("architech_design_url: http://u:SECRET@a", ["'architech_design_url'", "user name"]),
        ("tokens: [a]", ["'tokens'", "ADDRESS: TOKEN"]),
        ("tokens: {'http://a:1': 7}", ["'tokens'", "ADDRESS: TOKEN"]),
        ("- a list", ["list", "key: value"]),
        ("a: [", ["line", "not YAML"]),
    ],
)
def test_a_wrong_value_names_key_file_and_what_is_expected(
    environ: dict[str, str], text: str, words: list[str]
) -> None:
    """Whoever reads the error can mend the file without a manual."""
    path = write(environ, text)
    with pytest.raises(ConfigError) as caught:
        load(environ)
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    assert "pass" not in str(caught.value).replace("password", "")
    assert "SECRET" not in str(caught.value)


def test_a_wrong_variable_is_named(environ: dict[str, str]) -> None:
    """The error says that it was the environment."""
    environ["PHYSICSRUNNER_PORT"] = "x"
    with pytest.raises(ConfigError, match="PHYSICSRUNNER_PORT is 'x'"):
        load(environ)


def test_yaml_errors_never_quote_a_token(environ: dict[str, str]) -> None:
    """PyYAML quotes the line that it could not read; that line may hold a token."""
    write(environ, "tokens:\n  http://a:1: 'SECRET\n")
    with pytest.raises(ConfigError) as caught:
        load(environ)
    assert "SECRET" not in str(caught.value)


def test_remembered_tokens_are_kept_by_server(environ: dict[str, str]) -> None:
    """Each server has its own token; the last login is the default server."""
    remember("http://a:1/", "token-a", environ)
    path = remember("B:2", "token-b", environ)
    settings = load(environ)
    assert settings.server == "http://b:2"
    assert settings.token_for("http://a:1") == "token-a"
    assert settings.token_for("http://B:2/") == "token-b"
    assert settings.token_for("http://c:3") is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert "token-a" not in repr(settings)


def test_remembering_keeps_other_keys(environ: dict[str, str]) -> None:
    """A login changes nothing but the server and its token."""
    write(environ, "work: /w\n")
    remember("http://a:1", "t", environ)
    assert load(environ).work == Path("/w")


def test_a_token_of_the_environment_goes_to_every_server(environ: dict[str, str]) -> None:
    """PHYSICSRUNNER_TOKEN wins over what is remembered."""
    remember("http://a:1", "kept", environ)
    environ["PHYSICSRUNNER_TOKEN"] = " now \n"
    assert load(environ).token_for("http://a:1") == "now"
    assert load(environ).token_for("http://other:1") == "now"


def test_forgetting_drops_one_token(environ: dict[str, str]) -> None:
    """The others stay; a second time there is none."""
    remember("http://a:1", "a", environ)
    remember("http://b:1", "b", environ)
    assert forget("http://a:1", environ)
    assert not forget("http://a:1", environ)
    assert load(environ).tokens == {"http://b:1": "b"}


def test_a_file_that_others_can_read_is_told(environ: dict[str, str]) -> None:
    """With tokens in it; and the next login mends it."""
    path = remember("http://a:1", "a", environ)
    path.chmod(0o644)
    assert "chmod 600" in load(environ).warnings[0]
    remember("http://a:1", "b", environ)
    assert load(environ).warnings == ()


def test_addresses_have_one_form() -> None:
    """Tokens are found whatever way the address was written."""
    assert normal_url("localhost:3011") == "http://localhost:3011"
    assert normal_url(" HTTPS://Host/prefix/ ".replace("HTTPS", "https")) == "https://host/prefix"
    for wrong in ("", "http://", "http://a:port", "http://a:0", "http://[", "file:///x"):
        with pytest.raises(ConfigError):
            normal_url(wrong)


def test_a_database_is_reached_by_our_driver_and_its_password_stays_unseen(
    environ: dict[str, str],
) -> None:
    """What people write is taken; the settings do not show it."""
    for scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        environ["PHYSICSRUNNER_DATABASE"] = f"{scheme}://u:SECRET@h:5/n"
        settings = load(environ)
        assert settings.database == "postgresql+psycopg://u:SECRET@h:5/n"
        assert "SECRET" not in repr(settings)


def test_a_server_without_settings_keeps_everything_and_trusts_nobody(
    environ: dict[str, str],
) -> None:
    """What is not set is off."""
    settings = load(environ)
    assert (settings.retention_days, settings.retention_runs) == (None, None)
    assert (settings.database, settings.nats, settings.tls_cert, settings.ca) == (None,) * 4
    assert settings.trusted_proxies == ()
    assert settings.max_concurrent_runs is None
