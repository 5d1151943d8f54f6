"""Logins by tokens of an identity provider (SASL OAUTHBEARER): the broker checks signatures, tokens are renewed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from bench.join import COMMAND, RETRIEVED, command_fields, details_fields
from schemas.catalog import Catalog
from schemas.codec import Codec
from streams.demo.system import RoleProcess
from streams.local.kafka import LocalKafka
from streams.settings import Settings, load
from tests.broker.harness import PARTITIONS, produce, sent, wait_for, wait_for_mails
from tests.broker.oauth import TOKEN_S, IdentityProvider, oauth_kafka
from tests.broker.secured import environment_by, run_here
from topology.topics import COMMANDS, DETAILS

pytestmark = pytest.mark.system

CLIENT: Final = "rejoinder-worker"
SECRET: Final = "s3cret: canary"  # noqa: S105 - nobody's.


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    """Return who gives tokens."""
    provider = IdentityProvider({CLIENT: SECRET})
    yield provider
    provider.close()


@pytest.fixture(scope="module")
def brokers(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalKafka, str]]:
    """Return a broker, and its address for those who have a token."""
    with oauth_kafka(tmp_path_factory.mktemp("oauth") / "kafka", provider) as both:
        yield both


def environment(provider: IdentityProvider, address: str, unique: str, **changed: str) -> dict[str, str]:
    """Return the environment of a process that gets its tokens from *provider*; *changed* are librdkafka's."""
    properties = {
        "bootstrap.servers": address,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": CLIENT,
        "sasl.oauthbearer.client.secret": SECRET,
        "sasl.oauthbearer.token.endpoint.url": f"{provider.url}/token",
        **{name.replace("_", "."): value for name, value in changed.items()},
    }
    return environment_by(unique, properties)


def produce_order(settings: Settings, order_id: str) -> None:
    """Produce both halves of an order."""
    codec = Codec(Catalog.from_files())
    produce(settings, DETAILS.name, {order_id: codec.encode_record(RETRIEVED, details_fields(order_id))})
    produce(settings, COMMANDS.name, {order_id: codec.encode_record(COMMAND, command_fields(order_id))})


def test_worker_gets_tokens_and_renews_them(
    brokers: tuple[LocalKafka, str], provider: IdentityProvider, unique: str, tmp_path: Path
) -> None:
    """Topics are made and an order is answered; and another one, when the first tokens have long ended."""
    kafka, address = brokers
    variables = environment(provider, address, unique)
    ran = run_here(["topics", "apply"], variables)
    assert 0 == ran.returncode, ran.stderr
    settings = load(
        bootstrap_servers=kafka.bootstrap_servers, application_id=unique, topic_prefix=f"{unique}.",
        partitions=PARTITIONS, replication_factor=1,
    )  # fmt: skip
    worker = RoleProcess("worker", "worker-0", tmp_path, variables | {"REJOINDER_ASK": "never"})
    worker.start()
    try:
        produce_order(settings, "order-1")
        wait_for_mails(settings, ["order-1"])
        before = len(provider.given)
        # Its consumer and its producer have tokens of their own.
        wait_for(lambda: len(provider.given) >= before + 4, "each token is renewed twice", 4 * TOKEN_S)
        produce_order(settings, "order-2")
        wait_for_mails(settings, ["order-2"])
        assert {"order-1": 1, "order-2": 1} == sent(settings)
        assert worker.running
    finally:
        worker.stop()
    assert SECRET not in worker.log.read_text()


def test_wrong_secret_is_said_and_not_shown(
    brokers: tuple[LocalKafka, str], provider: IdentityProvider, unique: str
) -> None:
    """Who, why and where to look; the same exit code as for any login that is refused."""
    wrong = "an0ther canary"
    variables = environment(provider, brokers[1], unique, sasl_oauthbearer_client_secret=wrong)
    ran = run_here(["topics", "diff"], variables)
    assert 2 == ran.returncode
    assert f"doesn't let the client {CLIENT} in" in ran.stderr
    assert "invalid_client" in ran.stderr
    assert "REJOINDER_KAFKA_SASL_" in ran.stderr
    assert "canary" not in ran.stderr + ran.stdout


def test_token_for_somebody_else_is_refused(
    brokers: tuple[LocalKafka, str], provider: IdentityProvider, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker looks at it: a token that is signed as well, but meant for another service, opens nothing."""
    token = provider.token
    monkeypatch.setattr(provider, "token", lambda client: token(client, audience="another service"))
    ran = run_here(["topics", "diff"], environment(provider, brokers[1], unique))
    assert 2 == ran.returncode
    assert f"doesn't let the client {CLIENT} in" in ran.stderr
