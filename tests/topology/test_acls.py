"""Who may do what: the roles' rights, as the topics' producers and consumers make them."""

from __future__ import annotations

import pytest

from streams.replay.recording import READ as READ_BY_REPLAY
from topology.acls import SERVICES, Grant, Operation, Resource, Role, allows, grants
from topology.topics import (
    COMMANDS,
    DEAD_LETTERS,
    EMAIL_COMMANDS,
    LEDGER_CHANGELOG,
    OUTCOMES,
    REDRIVES,
    TOPICS,
    Topic,
)

READ, WRITE, DESCRIBE = Operation.READ, Operation.WRITE, Operation.DESCRIBE


def may(role: Role, operation: Operation, topic: Topic) -> bool:
    """Return whether *role* may do *operation* on *topic*."""
    return allows(grants(role, "shop", "t."), Resource.TOPIC, f"t.{topic.name}", operation)


@pytest.mark.parametrize(("role", "participant"), SERVICES.items())
def test_service_writes_and_reads_what_the_topics_say(role: Role, participant: object) -> None:
    """No more and no less."""
    for topic in TOPICS:
        assert (participant in topic.producers) == may(role, WRITE, topic), topic.name
        assert (participant is topic.consumer) == may(role, READ, topic), topic.name
        needed = participant is topic.consumer or participant in topic.producers
        assert needed == may(role, Operation.DESCRIBE_CONFIGS, topic), topic.name


@pytest.mark.parametrize("role", SERVICES)
def test_service_has_its_own_group_and_transactional_ids_only(role: Role) -> None:
    """A role's password opens no other role's group, and fences no other role's producers."""
    mine = grants(role, "shop")
    for other in SERVICES:
        group = any(grant.covers(Resource.GROUP, f"shop-{other.value}", READ) for grant in mine)
        fences = any(grant.covers(Resource.TRANSACTIONAL_ID, f"shop-{other.value}-0", WRITE) for grant in mine)
        assert (other is role, other is role) == (group, fences)


def test_source_and_reader_see_one_topic_each() -> None:
    """Those outside: commands in, outcomes out."""
    assert {COMMANDS} == {topic for topic in TOPICS if may(Role.SOURCE, WRITE, topic)}
    assert set() == {topic for topic in TOPICS if may(Role.SOURCE, READ, topic)}
    assert {OUTCOMES} == {topic for topic in TOPICS if may(Role.READER, READ, topic)}
    assert set() == {topic for topic in TOPICS if may(Role.READER, WRITE, topic)}


def test_operator_changes_nothing() -> None:
    """Looks at all topics, and reads dead letters, what was put back, and the ledger's mails in doubt."""
    assert set() == {topic for topic in TOPICS if may(Role.OPERATOR, WRITE, topic)}
    assert set(TOPICS) == {topic for topic in TOPICS if may(Role.OPERATOR, DESCRIBE, topic)}
    assert {DEAD_LETTERS, REDRIVES, LEDGER_CHANGELOG} == {topic for topic in TOPICS if may(Role.OPERATOR, READ, topic)}


def test_auditor_reads_records_and_changes_nothing() -> None:
    """What is replayed, and no state."""
    assert set() == {topic for topic in TOPICS if may(Role.AUDITOR, WRITE, topic)}
    assert set(READ_BY_REPLAY) == {topic for topic in TOPICS if may(Role.AUDITOR, READ, topic)}
    assert not any(grant.covers(Resource.GROUP, "shop-worker", READ) for grant in grants(Role.AUDITOR, "shop"))


def test_redriver_writes_to_the_inputs_and_its_own_topic() -> None:
    """Each right once, and only its own transactional id."""
    inputs = {topic for topic in TOPICS if topic.is_input}
    assert inputs | {REDRIVES} == {topic for topic in TOPICS if may(Role.REDRIVER, WRITE, topic)}
    # The last two: for verdicts on mails in doubt.
    expected = {DEAD_LETTERS, REDRIVES, LEDGER_CHANGELOG, EMAIL_COMMANDS}
    assert expected == {topic for topic in TOPICS if may(Role.REDRIVER, READ, topic)}
    found = grants(Role.REDRIVER, "shop")
    assert len(found) == len(set(found))
    assert any(grant.covers(Resource.TRANSACTIONAL_ID, "shop-redrive", WRITE) for grant in found)
    assert not any(grant.covers(Resource.TRANSACTIONAL_ID, "shop-worker-0", WRITE) for grant in found)


def test_deployer_creates_topics_and_writes_none() -> None:
    """It sets the groups' positions, for which Kafka wants it to read the inputs."""
    assert set(TOPICS) == {topic for topic in TOPICS if may(Role.DEPLOYER, Operation.CREATE, topic)}
    assert {topic for topic in TOPICS if topic.is_input} == {
        topic for topic in TOPICS if may(Role.DEPLOYER, READ, topic)
    }
    assert set() == {topic for topic in TOPICS if may(Role.DEPLOYER, WRITE, topic)}


def test_grant_covers_what_it_implies_and_nothing_else() -> None:
    """Kafka's own implications, and names by prefix only where it is one."""
    grant = Grant(Resource.TOPIC, EMAIL_COMMANDS.name, WRITE)
    assert grant.covers(Resource.TOPIC, EMAIL_COMMANDS.name, DESCRIBE)
    assert not grant.covers(Resource.TOPIC, EMAIL_COMMANDS.name, READ)
    assert not grant.covers(Resource.TOPIC, EMAIL_COMMANDS.name + "-2", WRITE)
    assert not grant.covers(Resource.GROUP, EMAIL_COMMANDS.name, WRITE)
    assert grant._replace(prefixed=True).covers(Resource.TOPIC, EMAIL_COMMANDS.name + "-2", WRITE)
