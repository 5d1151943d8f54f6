"""``rejoinder send`` and ``cancel``: commands by hand, as records on the topic."""

from __future__ import annotations

import getpass
import time
import uuid
from typing import Annotated, Any, Final

import confluent_kafka
import typer

from streams import settings as settings_module
from streams.cli.arguments import OrderId
from streams.registry import open_registry
from streams.transport import config
from streams.transport.refusals import Errors
from topology.acls import Role
from topology.topics import COMMANDS

DELIVERY_S: Final = 30.0


def send(
    order_id: OrderId,
    command_id: Annotated[
        uuid.UUID | None,
        typer.Option(help="Identity of the command; sending it again with the same one changes nothing."),
    ] = None,
    locale: Annotated[str, typer.Option(help="Language of the e-mail.")] = "en",
    requested_by: Annotated[str | None, typer.Option(help="Who asks.", show_default="your login")] = None,
) -> None:
    """Send the command SendOrderConfirmationEmail for ORDER_ID; prints its command id."""
    identity = str(command_id or uuid.uuid4())
    _produce(
        "communications.SendOrderConfirmationEmail",
        {
            "command_id": identity,
            "order_id": order_id,
            "requested_at": time.time_ns() // 1_000_000,
            "requested_by": requested_by or getpass.getuser(),
            "locale": locale,
        },
    )
    typer.echo(identity)


def cancel(order_id: OrderId, command_id: Annotated[uuid.UUID, typer.Argument(help="The command to cancel.")]) -> None:
    """Cancel a command: its e-mail is never sent, unless it was requested already."""
    _produce(
        "communications.CancelOrderConfirmation",
        {"command_id": str(command_id), "order_id": order_id, "requested_at": time.time_ns() // 1_000_000},
    )


def _produce(record: str, fields: dict[str, Any]) -> None:
    """
    Produce one record to the commands and wait until the brokers have it.

    Raises:
        Unavailable: they don't take it.
    """
    settings = settings_module.load()
    value = open_registry(settings).codec.encode_record(record, fields)
    refusals = Errors()
    producer = confluent_kafka.Producer(config.plain_producer(settings) | {"error_cb": refusals})
    errors: list[Any] = []
    key = fields["order_id"].encode()
    topic = settings.topic(COMMANDS.name)
    producer.produce(topic, value, key, on_delivery=lambda error, _: errors.append(error))
    producer.flush(DELIVERY_S)
    # Not by `==`: a KafkaError that is compared with None leaves an exception set (confluent-kafka 2.16).
    if not errors or errors[0] is not None:
        failure = refusals.failure(settings, errors[0] if errors else None, Role.SOURCE)
        raise type(failure)(f"{topic} didn't take the command: {failure}")
