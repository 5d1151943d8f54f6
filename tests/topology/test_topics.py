"""The topics: each declared once, with the settings that the promises rest on."""

from __future__ import annotations

import pytest

from topology import topics
from topology.policy import DAY_MS
from topology.topics import TOPICS, Participant, Topic

DAY, WEEK, MONTH = str(DAY_MS), str(7 * DAY_MS), str(30 * DAY_MS)
INPUT = {"message.timestamp.type": "LogAppendTime"}


def deleted(retention: str, bytes_max: int = 1_048_576) -> dict[str, str]:
    """Return the settings of a topic whose old records go."""
    return {
        "cleanup.policy": "delete",
        "retention.ms": retention,
        "segment.ms": DAY,
        "max.message.bytes": str(bytes_max),
    }


def compacted(bytes_max: int) -> dict[str, str]:
    """Return the settings of a changelog."""
    return {
        "cleanup.policy": "compact",
        "delete.retention.ms": WEEK,
        "max.compaction.lag.ms": WEEK,
        "max.message.bytes": str(bytes_max),
    }


EXPECTED = {
    "order-confirmation.commands": deleted(WEEK) | INPUT,
    "order-details.queries": deleted(DAY) | INPUT,
    "order-details.events": deleted(WEEK) | INPUT,
    "email.commands": deleted(WEEK, 2 * 1_048_576 + 65_536) | INPUT,
    "email.events": deleted(WEEK) | INPUT,
    "order-confirmation.events": deleted(WEEK),
    "order-confirmation.processes-changelog": compacted(4 * 1_048_576 + 65_536),
    "email.ledger-changelog": compacted(1_048_576),
    "order-confirmation.dead-letters": deleted(MONTH, 2 * 1_048_576 + 2 * 65_536),
    "order-confirmation.redrives": deleted(str(32 * DAY_MS)),
}


def test_topics_have_the_documented_settings() -> None:
    """Names, in order, and what the broker is told of each."""
    assert list(EXPECTED.items()) == [(topic.name, topic.config) for topic in TOPICS]


def test_every_declared_topic_is_listed_once() -> None:
    """A topic declared and not listed would never be created."""
    declared = [value for value in vars(topics).values() if isinstance(value, Topic)]

    assert declared == list(TOPICS)
    assert len({topic.name for topic in TOPICS}) == len(TOPICS)


def test_every_record_type_has_one_topic() -> None:
    """Who reads a record's name knows its topic."""
    records = [record for topic in TOPICS for record in topic.records]

    assert 10 == len(records) == len(set(records))


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_dead_letters_hold_whatever_is_read(topic: Topic) -> None:
    """The largest record that a service reads fits into a dead letter with its coordinates."""
    if topic.is_input:
        assert topics.DEAD_LETTERS.record_bytes_max >= topic.record_bytes_max + 65_536


def test_marks_outlive_the_dead_letters_they_mark() -> None:
    """A dead letter's segment may stay a day longer than its retention; without its mark it would be put back again."""
    assert topics.REDRIVES.retention_ms > topics.DEAD_LETTERS.retention_ms + DAY_MS


def test_process_manager_reads_three_topics() -> None:
    """Commands, details and e-mail events; its changelog is read to restore, not to decide."""
    inputs = [topic.name for topic in TOPICS if topic.is_input and topic.consumer is Participant.PROCESS_MANAGER]

    assert ["order-confirmation.commands", "order-details.events", "email.events"] == inputs
