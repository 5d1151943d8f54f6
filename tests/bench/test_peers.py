"""All contenders of the comparison on a real broker: the same input must become the same e-mails, byte for byte."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.compare import BROKER
from bench.contenders import Contender
from bench.sections.joins import FAUST, OURS, QUIX, STREAMS, STREAMS_2, STREAMS_PLAIN
from bench.stage import TINY, Stage
from streams.local.kafka import LocalKafka

pytestmark = [pytest.mark.broker, pytest.mark.system, pytest.mark.timeout(400)]
"""The first run also fetches the peers and compiles one of them."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return a broker with what the trials share."""
    kafka = LocalKafka(tmp_path_factory.mktemp("kafka"), properties=BROKER)
    kafka.start(timeout_s=240.0)
    try:
        yield Stage(kafka, Path(tmp_path_factory.mktemp("trials")), TINY)
    finally:
        kafka.stop()


@pytest.mark.parametrize(
    "contender", [OURS, STREAMS, STREAMS_2, STREAMS_PLAIN, QUIX, FAUST], ids=lambda contender: contender.name
)
def test_what_comes_out_is_what_comes_out_of_ours(stage: Stage, contender: Contender) -> None:
    """The trial itself compares every e-mail with what it must be, and looks at their headers."""
    figures = stage.trial(contender, stage.dataset(TINY.near_pairs, TINY.near))
    assert figures["whole_joins_per_s"] > 0
    assert figures["worker_cpu_s"] > 0
    assert figures["peak_mib"] > 10
