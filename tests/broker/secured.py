"""A broker with TLS, logins and an authorizer, and who connects to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)
from typer.testing import CliRunner

from streams.cli import app as cli
from streams.errors import RejoinderError
from streams.local.kafka import LocalKafka
from streams.settings import PREFIX, Settings, load
from streams.transport.acls import Acls, principals
from streams.transport.topics import Cluster
from tests.broker.certificates import Authority
from tests.broker.harness import PARTITIONS, wait_for
from topology.acls import Role, grants

PASSWORD = "p4ssw0rd of {}"  # noqa: S105 - the tests' own.
ROOT = Path(__file__).parents[2]


class SecuredKafka(NamedTuple):
    """The broker, and the authority that signed its certificate."""

    kafka: LocalKafka
    authority: Authority
    admin: AdminClient
    """The administrator, on the plain listener."""

    def add_users(self, names: Iterable[str]) -> None:
        """Make SCRAM logins, each with `password_of` its name."""
        credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4_096)
        users: list[UserScramCredentialAlteration] = [
            UserScramCredentialUpsertion(name, credential, password_of(name).encode()) for name in names
        ]
        for future in self.admin.alter_user_scram_credentials(users).values():
            future.result(30)

    def login(self, user: str) -> dict[str, str]:
        """Return librdkafka's properties of a client that logs in as *user*."""
        return {
            "bootstrap.servers": self.kafka.sasl_servers,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": password_of(user),
            "ssl.ca.location": str(self.authority.ca),
            # Refusals are what the tests are about.
            "log_level": "0",
        }

    def certified(self, name: str, password: str = "") -> dict[str, str]:
        """Return librdkafka's properties of a client with a certificate for *name*."""
        pem = str(self.authority.sign(name, password))
        return {
            "bootstrap.servers": self.kafka.mtls_servers,
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.authority.ca),
            "ssl.certificate.location": pem,
            "ssl.key.location": pem,
            **({"ssl.key.password": password} if password else {}),
            "log_level": "0",
        }

    def revoke(self, principal: str, kind: ResourceType, name: str, operation: AclOperation) -> None:
        """Take one ACL away."""
        self._delete(AclBindingFilter(kind, name, ResourcePatternType.ANY, principal, "*", operation, _ALLOW))

    def grant(self, principal: str, kind: ResourceType, name: str, operation: AclOperation) -> None:
        """Give one ACL."""
        binding = AclBinding(kind, name, ResourcePatternType.LITERAL, principal, "*", operation, _ALLOW)
        for future in self.admin.create_acls([binding]).values():
            future.result(30)

    def _delete(self, what: AclBindingFilter) -> None:
        for future in self.admin.delete_acls([what]).values():
            assert future.result(30), "there was no such ACL"


_ALLOW = AclPermissionType.ALLOW


def password_of(user: str) -> str:
    """Return the password of *user*."""
    return PASSWORD.format(user)


class Deployment:
    """An application on the secured broker: its topics, and a login a role with just that role's ACLs."""

    def __init__(self, secured: SecuredKafka, name: str) -> None:
        self.secured = secured
        self.name = name
        self.admin_settings = load(
            bootstrap_servers=secured.kafka.bootstrap_servers, **self._common, partitions=PARTITIONS
        )
        secured.add_users(self.user(role) for role in Role)
        acls = Acls(self.admin_settings)
        acls.apply(acls.differences(principals(self.admin_settings, {})))
        wait_for(lambda: not acls.differences(principals(self.admin_settings, {})), "the ACLs are set")

    @property
    def _common(self) -> dict[str, Any]:
        return {"application_id": self.name, "topic_prefix": f"{self.name}.", "replication_factor": 1}

    def user(self, role: Role) -> str:
        """Return the login of *role*."""
        return f"{self.name}-{role.value}"

    def create_topics(self) -> None:
        """Create them as the administrator; how the deployer does it has a test of its own."""
        Cluster(self.admin_settings).apply()

    def environment(self, role: Role, **more: str) -> dict[str, str]:
        """Return the environment of a process that logs in as *role*."""
        login = self.secured.login(self.user(role))
        servers = login.pop("bootstrap.servers")
        del login["log_level"]
        return {
            "REJOINDER_BOOTSTRAP_SERVERS": servers,
            "REJOINDER_APPLICATION_ID": self.name,
            "REJOINDER_TOPIC_PREFIX": f"{self.name}.",
            "REJOINDER_PARTITIONS": str(PARTITIONS),
            "REJOINDER_REPLICATION_FACTOR": "1",
            **as_variables(login),
            **more,
        }

    def names(self, role: Role) -> list[str]:
        """Return the topics that *role* may do anything with."""
        return [grant.name for grant in grants(role, self.name, f"{self.name}.")]


def as_variables(properties: Mapping[str, str]) -> dict[str, str]:
    """Return librdkafka's *properties* as the environment gives them."""
    return {f"{PREFIX}KAFKA_{name.upper().replace('.', '_')}": value for name, value in properties.items()}


def environment_by(unique: str, properties: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command of *unique*'s deployment that connects by librdkafka's *properties*."""
    properties = {name: value for name, value in properties.items() if name != "log_level"}
    servers = properties.pop("bootstrap.servers")
    return {
        "REJOINDER_BOOTSTRAP_SERVERS": servers,
        "REJOINDER_APPLICATION_ID": unique,
        "REJOINDER_TOPIC_PREFIX": f"{unique}.",
        "REJOINDER_PARTITIONS": str(PARTITIONS),
        "REJOINDER_REPLICATION_FACTOR": "1",
        **as_variables(properties),
    }


def rejoinder(
    arguments: Iterable[str], environment: Mapping[str, str], timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run ``rejoinder`` in a process of its own, with no other settings than *environment*."""
    return subprocess.run(
        [sys.executable, "-m", "streams", *arguments],
        cwd=ROOT, env={"LC_ALL": "C.UTF-8", "COLUMNS": "300", **environment}, capture_output=True, text=True,
        timeout=timeout_s, check=False,
    )  # fmt: skip


def run_here(arguments: Iterable[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run ``rejoinder`` within this process, which takes a tenth of the time; librdkafka's own lines aren't caught."""
    result = CliRunner().invoke(cli, list(arguments), env={"COLUMNS": "300", **environment})
    code, errors = result.exit_code, result.stderr
    if isinstance(result.exception, RejoinderError):  # As `streams.cli.main` does.
        code, errors = result.exception.exit_code, f"{errors}rejoinder: {result.exception}\n"
    elif result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(list(arguments), code, result.stdout, errors)


def settings_of(environment: Mapping[str, str], **more: Any) -> Settings:
    """Return the settings of *environment* without its librdkafka properties, which only a process has."""
    fields = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if not name.startswith(f"{PREFIX}KAFKA_")
    }
    return load(**fields, **more)
