"""
The table of all settings. How a text becomes a value: `config.reading`.

Promises: every setting stands here once, with its key, its variable, its default and its help.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from physicsrunner.config.reading import (
    normal_url,
    read_amount,
    read_any_port,
    read_count,
    read_database,
    read_design_url,
    read_doors,
    read_file_name,
    read_flag,
    read_folder,
    read_host,
    read_name,
    read_nats,
    read_pages,
    read_port,
    read_proxies,
)
from physicsrunner.wire.rest import DEFAULT_PORT

DEFAULT_SERVER: Final = f"http://127.0.0.1:{DEFAULT_PORT}"


@dataclass(frozen=True)
class Setting:
    """One setting: its key in the file, its environment variable, its default and its help."""

    name: str
    variable: str
    default: str  #: as text; ``~`` and the XDG folders are expanded
    help: str
    read: Callable[[str, str], Any]  #: (text, where) -> value, or ConfigError


SETTINGS: Final[Mapping[str, Setting]] = MappingProxyType(
    {
        setting.name: setting
        for setting in (
            Setting(
                "server",
                "PHYSICSRUNNER_SERVER",
                DEFAULT_SERVER,
                "address of the server that commands talk to",
                normal_url,
            ),
            Setting(
                "host",
                "PHYSICSRUNNER_HOST",
                "127.0.0.1",
                "address that `physicsrunner server` listens on",
                read_host,
            ),
            Setting(
                "port",
                "PHYSICSRUNNER_PORT",
                str(DEFAULT_PORT),
                "port that `physicsrunner server` listens on",
                read_port,
            ),
            Setting(
                "data",
                "PHYSICSRUNNER_DATA",
                "$XDG_DATA_HOME/physicsrunner",
                "folder in which the server keeps runs, files and its database",
                read_folder,
            ),
            Setting(
                "work",
                "PHYSICSRUNNER_WORK",
                "runs",
                "folder in which `physicsrunner run` makes its work folders",
                read_folder,
            ),
            Setting(
                "cache",
                "PHYSICSRUNNER_CACHE",
                "$XDG_CACHE_HOME/physicsrunner",
                "folder for inputs that were fetched before",
                read_folder,
            ),
            Setting(
                "ca",
                "PHYSICSRUNNER_CA",
                "",
                "PEM file of the authorities that clients and agents trust over https, "
                "in place of the machine's",
                read_file_name,
            ),
            Setting(
                "database",
                "PHYSICSRUNNER_DATABASE",
                "",
                "database of the server: postgresql://USER:PASSWORD@HOST/NAME; "
                "without it, SQLite in the data folder",
                read_database,
            ),
            Setting(
                "max_concurrent_runs",
                "PHYSICSRUNNER_MAX_CONCURRENT_RUNS",
                "",
                "most runs that the server has carried out at the same time; without it, no limit",
                read_count,
            ),
            Setting(
                "retention_days",
                "PHYSICSRUNNER_RETENTION_DAYS",
                "",
                "days after their end at which runs are removed with their files; "
                "without it, never",
                read_amount,
            ),
            Setting(
                "retention_runs",
                "PHYSICSRUNNER_RETENTION_RUNS",
                "",
                "most ended runs that are kept, the newest; without it, all",
                read_count,
            ),
            Setting(
                "retention_inputs_days",
                "PHYSICSRUNNER_RETENTION_INPUTS_DAYS",
                "",
                "days after which an uploaded input is removed that no run names; "
                "without it, never",
                read_amount,
            ),
            Setting(
                "audit_days",
                "PHYSICSRUNNER_AUDIT_DAYS",
                "",
                "days after which the audit forgets what people, agents and deletions did; "
                "without it, never",
                read_amount,
            ),
            Setting(
                "lease_s",
                "PHYSICSRUNNER_LEASE_S",
                "60",
                "seconds after which an agent that is not heard of counts as unreachable",
                read_amount,
            ),
            Setting(
                "grace_s",
                "PHYSICSRUNNER_GRACE_S",
                "300",
                "seconds after that, before `on_lost_contact` of a run decides",
                read_amount,
            ),
            Setting(
                "nats",
                "PHYSICSRUNNER_NATS",
                "",
                "NATS server that is told of all events: nats://HOST:4222; without it, none",
                read_nats,
            ),
            Setting(
                "webhook_private",
                "PHYSICSRUNNER_WEBHOOK_PRIVATE",
                "no",
                "whether webhooks may lead to addresses that are not public: yes or no",
                read_flag,
            ),
            Setting(
                "doors",
                "PHYSICSRUNNER_DOORS",
                "",
                "foreign wires that are open: physicsworks, shakescenario, ath, architech; "
                "- for none; default: physicsworks, in `physicsrunner up` all",
                read_doors,
            ),
            Setting(
                "door_user",
                "PHYSICSRUNNER_DOOR_USER",
                "",
                "person as whom doors act for programs of this machine without a token; "
                "- for nobody; default: nobody, in `physicsrunner up` admin",
                read_name,
            ),
            Setting(
                "shakescenario_port",
                "PHYSICSRUNNER_SHAKESCENARIO_PORT",
                "",
                "TCP port of the shakescenario door; 0: any free one; default: 6000",
                read_any_port,
            ),
            Setting(
                "shakescenario_model",
                "PHYSICSRUNNER_SHAKESCENARIO_MODEL",
                "shake-scenario",
                "name or id of the model that the shakescenario door runs",
                read_name,
            ),
            Setting(
                "shakescenario_folder",
                "PHYSICSRUNNER_SHAKESCENARIO_FOLDER",
                "",
                "folder in which each job of the shakescenario door has one; without it, none",
                read_file_name,
            ),
            Setting(
                "ath_model",
                "PHYSICSRUNNER_ATH_MODEL",
                "horn-acoustics",
                "name or id of the model that the ath door runs",
                read_name,
            ),
            Setting(
                "ath_max_concurrent_runs",
                "PHYSICSRUNNER_ATH_MAX_CONCURRENT_RUNS",
                "1",
                "most runs of the ath door that are carried out at the same time",
                read_count,
            ),
            Setting(
                "architech_model",
                "PHYSICSRUNNER_ARCHITECH_MODEL",
                "",
                "name or id of the model that the architech door runs, "
                "where its mapping names none",
                read_name,
            ),
            Setting(
                "architech_design_url",
                "PHYSICSRUNNER_ARCHITECH_DESIGN_URL",
                "",
                "address of the design service that the architech door asks",
                read_design_url,
            ),
            Setting(
                "architech_mapping",
                "PHYSICSRUNNER_ARCHITECH_MAPPING",
                "",
                "YAML file that says which parts of a design are which parameters",
                read_file_name,
            ),
            Setting(
                "cors_origins",
                "PHYSICSRUNNER_CORS_ORIGINS",
                "",
                "pages of elsewhere that may call the doors: https://HOST, "
                "with commas between them",
                read_pages,
            ),
            Setting(
                "tls_cert",
                "PHYSICSRUNNER_TLS_CERT",
                "",
                "PEM file of the server's certificate, then of those that signed it: "
                "it speaks https",
                read_file_name,
            ),
            Setting(
                "tls_key",
                "PHYSICSRUNNER_TLS_KEY",
                "",
                "PEM file of the certificate's private key, without a password",
                read_file_name,
            ),
            Setting(
                "trusted_proxies",
                "PHYSICSRUNNER_TRUSTED_PROXIES",
                "",
                "addresses and networks of reverse proxies whose X-Forwarded-For and "
                "X-Forwarded-Proto are believed, with commas between them",
                read_proxies,
            ),
        )
    }
)
