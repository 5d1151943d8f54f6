"""``rejoinder kafka up|down|status`` on a real broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from streams.cli.kafka import NOT_RUNNING, app
from streams.local.process import free_ports

run = CliRunner().invoke


pytestmark = pytest.mark.system


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[str]:
    """Return a directory whose name has a blank, and stop what runs there afterwards."""
    directory = str(tmp_path / "my kafka")
    yield directory
    run(app, ["down", "--dir", directory])


def test_up_status_down_and_up_again_keep_the_data(directory: str) -> None:
    """Each command says what it found, and a topic outlives the stop."""
    port = free_ports(1)[0]
    address = f"127.0.0.1:{port}"
    up = ["up", "--dir", directory, "--port", str(port)]

    assert NOT_RUNNING == run(app, ["status", "--dir", directory]).exit_code
    first = run(app, up)
    assert (0, f"{address}\n") == (first.exit_code, first.stdout)
    # By name: a client that is collected takes its answers with it.
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    admin.create_topics([NewTopic("kept", 1)])["kept"].result(10)
    assert f"runs already: {address}\n" == run(app, up).stdout
    status = run(app, ["status", "--dir", directory])
    assert 0 == status.exit_code
    assert "version: Apache Kafka 4.4.0" in status.stdout
    assert "answers: 1 of 1 brokers" in status.stdout

    assert "stopped\n" == run(app, ["down", "--dir", directory]).stdout
    assert NOT_RUNNING == run(app, ["status", "--dir", directory]).exit_code
    assert "doesn't run\n" == run(app, ["down", "--dir", directory]).stdout

    assert 0 == run(app, up).exit_code
    assert "kept" in admin.list_topics(timeout=10).topics


def test_port_that_is_taken_is_said(directory: str, tmp_path: Path) -> None:
    """The second broker on a port fails with the port in the message, and leaves nothing running."""
    port = str(free_ports(1)[0])
    other = str(tmp_path / "other")
    run(app, ["up", "--dir", directory, "--port", port])

    second = run(app, ["up", "--dir", other, "--port", port])

    assert 0 != second.exit_code
    assert f"127.0.0.1:{port}: somebody listens here already" in second.stderr
    assert NOT_RUNNING == run(app, ["status", "--dir", other]).exit_code
