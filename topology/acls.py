"""
What each role may do on the cluster, and nothing beyond it; derived from the topics' producers and consumers.

Admin command, documentation and tests read this page. A principal a role: whoever steals the e-mail service's password
can't command e-mails, only pretend that they were sent.

Kafka's own implications are used: Read and Write on a resource, and Alter, imply Describe; AlterConfigs implies
DescribeConfigs; Write on a topic allows idempotent production (since 3.0).

Source: Apache Kafka's documentation, "Operations and Resources on Protocols".
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from topology.topics import (
    COMMANDS,
    DEAD_LETTERS,
    DETAILS,
    EMAIL_COMMANDS,
    EMAIL_EVENTS,
    LEDGER_CHANGELOG,
    OUTCOMES,
    QUERIES,
    TOPICS,
    Participant,
    Topic,
)


class Resource(Enum):
    """What an operation is done to, as Kafka's tools name it."""

    TOPIC = "Topic"
    GROUP = "Group"
    TRANSACTIONAL_ID = "TransactionalId"


class Operation(Enum):
    """What is done, as Kafka's tools name it."""

    READ = "Read"
    WRITE = "Write"
    CREATE = "Create"
    DESCRIBE = "Describe"
    DESCRIBE_CONFIGS = "DescribeConfigs"
    ALTER_CONFIGS = "AlterConfigs"


IMPLIED_BY: Final = {
    Operation.DESCRIBE: frozenset({Operation.READ, Operation.WRITE}),
    Operation.DESCRIBE_CONFIGS: frozenset({Operation.ALTER_CONFIGS}),
}
"""Whoever may do one of the values may do the key."""


class Role(Enum):
    """Who connects; the value ends its principal's usual name."""

    WORKER = "worker"
    ORDERS = "orders"
    EMAIL = "email"
    SOURCE = "source"
    """Sends commands: `rejoinder send`, `cancel`, or a program."""
    READER = "reader"
    """Reads the outcomes."""
    OPERATOR = "operator"
    """Looks, and changes nothing: `rejoinder explain`, `status`, `topics diff`, lag, dead letters, mails in doubt."""
    REDRIVER = "redriver"
    """Puts dead letters back, so may write to every input; says what becomes of mails in doubt, so may read them."""
    AUDITOR = "auditor"
    """Reads what came and what came of it, addresses too, and changes nothing: `rejoinder replay`, `export`."""
    DEPLOYER = "deployer"
    """`rejoinder topics apply`."""


RECORDED: Final = (COMMANDS, DETAILS, EMAIL_EVENTS, QUERIES, EMAIL_COMMANDS, OUTCOMES, DEAD_LETTERS)
"""The process manager's inputs and outputs: what is replayed."""

SERVICES: Final = {
    Role.WORKER: Participant.PROCESS_MANAGER,
    Role.ORDERS: Participant.ORDERS,
    Role.EMAIL: Participant.EMAIL,
}
"""Those with a consumer group and transactions, which share their names' ends with them."""


class Grant(NamedTuple):
    """One operation allowed on one resource; *prefixed*: on all whose names begin with *name*."""

    resource: Resource
    name: str
    operation: Operation
    prefixed: bool = False

    def covers(self, resource: Resource, name: str, operation: Operation) -> bool:
        """Return whether this allows *operation* on the *resource* called *name*."""
        return (
            self.resource is resource
            and (name.startswith(self.name) if self.prefixed else name == self.name)
            and (operation is self.operation or self.operation in IMPLIED_BY.get(operation, ()))
        )


def grants(role: Role, application_id: str, topic_prefix: str = "") -> list[Grant]:
    """Return all that *role* may do where groups begin with *application_id*, and topics with *topic_prefix*."""
    found = [
        Grant(Resource.TOPIC, topic_prefix + topic.name, operation)
        for topic in TOPICS
        for operation in _on_topic(role, topic)
    ]
    group = f"{application_id}-{role.value}"
    match role:
        case Role.WORKER | Role.ORDERS | Role.EMAIL:
            found.append(Grant(Resource.GROUP, group, Operation.READ))
            # The instance's name follows.
            found.append(Grant(Resource.TRANSACTIONAL_ID, f"{group}-", Operation.WRITE, prefixed=True))
        case Role.READER:
            found.append(Grant(Resource.GROUP, group, Operation.READ, prefixed=True))
        case Role.DEPLOYER:
            # Setting a position is a commit.
            found.extend(Grant(Resource.GROUP, f"{application_id}-{one.value}", Operation.READ) for one in SERVICES)
        case Role.OPERATOR | Role.AUDITOR:
            # The services', and one to read topics with: librdkafka asks who coordinates it.
            found.append(Grant(Resource.GROUP, f"{application_id}-", Operation.DESCRIBE, prefixed=True))
        case Role.REDRIVER:
            found.append(Grant(Resource.GROUP, f"{application_id}-", Operation.DESCRIBE, prefixed=True))
            found.append(Grant(Resource.TRANSACTIONAL_ID, f"{application_id}-redrive", Operation.WRITE))
        case _:  # A source is in no group.
            pass
    return found


def _on_topic(role: Role, topic: Topic) -> list[Operation]:
    """Return what *role* may do with *topic*; none that another one implies."""
    match role:
        case Role.WORKER | Role.ORDERS | Role.EMAIL:
            operations = _as_participant(SERVICES[role], topic)
            # Before they start, they look at the configuration of each topic that they need.
            return [*operations, Operation.DESCRIBE_CONFIGS] if operations else []
        case Role.SOURCE:
            return [Operation.WRITE] if topic is COMMANDS else []
        case Role.READER | Role.AUDITOR:
            return [Operation.READ] if topic in ((OUTCOMES,) if role is Role.READER else RECORDED) else []
        case Role.OPERATOR:
            return [_look(topic), Operation.DESCRIBE_CONFIGS]
        case Role.REDRIVER:
            operations = _as_participant(Participant.PERSON, topic)
            if topic in (EMAIL_COMMANDS, LEDGER_CHANGELOG):
                operations = [Operation.READ]
            return (
                [*operations, Operation.WRITE] if topic.is_input and Operation.WRITE not in operations else operations
            )
        case _:  # The deployer.
            # The position of a group is set by whoever may read the topic.
            looks = Operation.READ if topic.is_input else Operation.DESCRIBE
            return [Operation.CREATE, looks, Operation.ALTER_CONFIGS]


def _look(topic: Topic) -> Operation:
    # The ledger says which mails are in doubt; there is no address in it.
    return Operation.READ if topic.consumer is Participant.PERSON or topic is LEDGER_CHANGELOG else Operation.DESCRIBE


def _as_participant(who: Participant, topic: Topic) -> list[Operation]:
    read = [Operation.READ] if topic.consumer is who else []
    return [*read, Operation.WRITE] if who in topic.producers else read


def allows(given: list[Grant], resource: Resource, name: str, operation: Operation) -> bool:
    """Return whether one of the *given* grants allows *operation* on the *resource* called *name*."""
    return any(grant.covers(resource, name, operation) for grant in given)
