"""
The cluster's ACLs: what is missing of the declared ones, setting them, and whether a process has its own.

Source: Apache Kafka's documentation, "Authorization and ACLs".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from streams.errors import ConfigurationError
from streams.settings import Settings
from streams.transport.refusals import Admin, granted_by
from topology.acls import IMPLIED_BY, Grant, Operation, Resource, Role, grants

CALL_S: Final = 15.0

_RESOURCES: Final = {
    Resource.TOPIC: ResourceType.TOPIC,
    Resource.GROUP: ResourceType.GROUP,
    Resource.TRANSACTIONAL_ID: ResourceType.TRANSACTIONAL_ID,
}
_OPERATIONS: Final = {operation: AclOperation[operation.name] for operation in Operation}
_REFUSED: Final = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})
_ABSENT: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND})


class Change(NamedTuple):
    """What `apply` did or would do: *binding* is missing, or, if *extra*, more than declared."""

    binding: AclBinding
    extra: bool

    def __str__(self) -> str:
        """Return it for a person."""
        acl = self.binding
        name = f"{acl.name}*" if acl.resource_pattern_type is ResourcePatternType.PREFIXED else acl.name
        kind, operation, permission = map(_name, (acl.restype, acl.operation, acl.permission_type))
        return (
            f"{'more than declared' if self.extra else 'missing'}: {permission} {acl.principal} to {operation} "
            f"{kind} {name} from {acl.host}"
        )


def _name(value: object) -> str:
    return value.name.lower() if isinstance(value, Enum) else str(value)


def principals(settings: Settings, chosen: Mapping[Role, str]) -> dict[Role, str]:
    """Return the principal of each role: the *chosen* one, or the application id and the role's name."""
    return {role: chosen.get(role, f"User:{settings.application_id}-{role.value}") for role in Role}


def bindings(settings: Settings, role: Role, principal: str) -> list[AclBinding]:
    """Return the ACLs that give *principal* what *role* may do."""
    return [
        AclBinding(
            _RESOURCES[grant.resource],
            grant.name,
            ResourcePatternType.PREFIXED if grant.prefixed else ResourcePatternType.LITERAL,
            principal,
            "*",
            _OPERATIONS[grant.operation],
            AclPermissionType.ALLOW,
        )
        for grant in grants(role, settings.application_id, settings.topic_prefix)
    ]


class Acls:
    """
    The cluster's ACLs, for whoever may change them.

    Raises from all methods:
        ConfigurationError: we may not, or the cluster has no authorizer.
        Unavailable: no broker answers.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin = Admin(settings)

    def differences(self, of: Mapping[Role, str]) -> list[Change]:
        """Return what the principals lack, and what they have on top."""
        declared: dict[str, set[AclBinding]] = {}
        for role, principal in of.items():
            # One principal may have several roles.
            declared.setdefault(principal, set()).update(bindings(self._settings, role, principal))
        found = []
        for principal, wanted in declared.items():
            actual = self._of(principal)
            found += [Change(one, extra=False) for one in sorted(wanted - actual, key=str)]
            found += [Change(one, extra=True) for one in sorted(actual - wanted, key=str)]
        return found

    def apply(self, changes: Iterable[Change]) -> None:
        """Create what is missing, delete what is extra."""
        changes = list(changes)
        client = self._admin.client
        if missing := [change.binding for change in changes if not change.extra]:
            for future in client.create_acls(missing, request_timeout=CALL_S).values():
                self._result(future)
        if extra := [change.binding for change in changes if change.extra]:
            for future in client.delete_acls([_exactly(one) for one in extra], request_timeout=CALL_S).values():
                self._result(future)

    def _of(self, principal: str) -> set[AclBinding]:
        everything = AclBindingFilter(
            ResourceType.ANY,
            None,  # type: ignore[arg-type]  # Any name; so it is documented.
            ResourcePatternType.ANY,
            principal,
            None,  # type: ignore[arg-type]  # Any host.
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        return set(self._result(self._admin.client.describe_acls(everything, request_timeout=CALL_S)))

    def _result(self, future: Any) -> Any:
        try:
            return self._admin.wait(future, CALL_S * 2)
        except KafkaException as exc:
            if exc.args[0].code() in (KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.SECURITY_DISABLED):
                raise ConfigurationError(
                    f"Kafka at {self._settings.bootstrap_servers} refuses: {exc.args[0].str()}; ACLs need brokers with "
                    "an authorizer (authorizer.class.name), and a principal that may Alter the Cluster"
                ) from exc
            raise self._admin.failure(exc) from exc


def _exactly(one: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        one.restype, one.name, one.resource_pattern_type, one.principal, one.host, one.operation, one.permission_type
    )


def check_rights(settings: Settings, role: Role) -> None:
    """
    Look whether we may do what *role* does with topics and groups; blocks.

    Before the start: a right that is missing would be found by the first record that needs it, with everything waiting.
    Transactional ids can't be asked about; the first transaction finds out.

    Raises:
        ConfigurationError: we may not; says what, on what, and how it is granted.
        Unavailable: no broker answers.
    """
    needed = grants(role, settings.application_id, settings.topic_prefix)
    given = _given(Admin(settings), needed)
    lacking = [grant for grant in needed if not _may(grant, given.get((grant.resource, grant.name)))]
    if lacking:
        listed = ", ".join(f"{grant.operation.value} on {grant.resource.value} {grant.name}" for grant in lacking)
        raise ConfigurationError(
            f"Kafka at {settings.bootstrap_servers} doesn't allow this process what the role {role.value} needs: "
            f"{listed}; {granted_by(role)}"
        )


def _given(admin: Admin, needed: Sequence[Grant]) -> dict[tuple[Resource, str], frozenset[AclOperation] | None]:
    """Return what we may do on each resource that is *needed*; see `_operations`."""
    topics, groups = _names(needed, Resource.TOPIC), _names(needed, Resource.GROUP)
    asked: dict[tuple[Resource, str], Any] = {}
    described = admin.client.describe_topics(
        TopicCollection(topics), include_authorized_operations=True, request_timeout=CALL_S
    )
    asked |= {(Resource.TOPIC, name): future for name, future in described.items()}
    if groups:
        members = admin.client.describe_consumer_groups(
            groups, include_authorized_operations=True, request_timeout=CALL_S
        )
        asked |= {(Resource.GROUP, name): future for name, future in members.items()}
    return {resource: _operations(admin, future) for resource, future in asked.items()}


def _names(needed: Sequence[Grant], resource: Resource) -> list[str]:
    return list(dict.fromkeys(grant.name for grant in needed if grant.resource is resource and not grant.prefixed))


def _may(grant: Grant, given: frozenset[AclOperation] | None) -> bool:
    if given is None:
        return True
    enough = {grant.operation, *IMPLIED_BY.get(grant.operation, ())}
    return bool(given & {_OPERATIONS[operation] for operation in enough})


def _operations(admin: Admin, future: Any) -> frozenset[AclOperation] | None:
    """Return what we may do; None where the broker doesn't say: of what isn't there, or without an authorizer."""
    try:
        operations = admin.wait(future, CALL_S * 2).authorized_operations
    except KafkaException as exc:
        code = exc.args[0].code()
        if code in _REFUSED:
            return frozenset()
        if code in _ABSENT:
            return None
        raise admin.failure(exc) from exc
    return None if operations is None else frozenset(operations)
