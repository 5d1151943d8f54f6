"""
What a call to the cluster failed of: the brokers don't answer, don't let us in, or don't let us do it.

librdkafka goes on trying when a login or certificate is refused, and a call then only times out; why is told by the
client's error callback.
"""

from __future__ import annotations

import time
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streams.errors import ConfigurationError, RejoinderError, Unavailable
from streams.settings import Settings
from streams.transport import config
from topology.acls import Role

FORBIDDEN: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.SECURITY_DISABLED,
    }
)
LOGIN: Final = frozenset({KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._AUTHENTICATION, KafkaError._SSL})


TOLD_S: Final = 1.0
"""For the reason of a failure to be told."""
LOCKED_OUT_S: Final = 3.0
"""After a refused login or certificate, how long another broker may still take to answer."""
_LOOK_S: Final = 0.1


class Errors:
    """An error callback: keeps the last reason why the brokers don't let us in, or don't let us do it."""

    def __init__(self) -> None:
        self.refused: KafkaError | None = None
        self._locked_out_s: float | None = None

    def __call__(self, error: KafkaError) -> None:
        """Take what librdkafka says, while it is polled."""
        if error.code() in FORBIDDEN | LOGIN:
            self.refused = error
        if error.code() in LOGIN and self._locked_out_s is None:
            self._locked_out_s = time.monotonic()

    @property
    def locked_out(self) -> bool:
        """Whether the brokers have refused our login or certificate, and none has answered since."""
        return self._locked_out_s is not None and time.monotonic() - self._locked_out_s > LOCKED_OUT_S

    def failure(self, settings: Settings, error: KafkaError | None, role: Role | None = None) -> RejoinderError:
        """Return what to raise: *error* is the call's, None if it only took too long; *role*'s right it needs."""
        where = f"Kafka at {settings.bootstrap_servers}"
        refused = error if error is not None and error.code() in FORBIDDEN | LOGIN else self.refused
        if refused is not None and refused.code() in FORBIDDEN:
            return ConfigurationError(f"{where} refuses {_who(settings)}: {refused.str()}; {granted_by(role)}")
        if refused is not None:
            return ConfigurationError(
                f"{where} doesn't let {_who(settings)} in: {refused.str()}; see REJOINDER_KAFKA_SECURITY_PROTOCOL, "
                "REJOINDER_KAFKA_SASL_… and REJOINDER_KAFKA_SSL_… (docs/security.md)"
            )
        why = error.str() if error is not None else "no answer in time"
        return Unavailable(f"{where}: {why}; does it run, and is it there (REJOINDER_BOOTSTRAP_SERVERS)?")


class Admin:
    """An admin client with its errors; ``client`` is to be held: a collected one never resolves its futures."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.errors = Errors()
        self.client = AdminClient(config.common(settings) | {"error_cb": self.errors})

    def result(self, future: Any, timeout_s: float, role: Role | None = None) -> Any:
        """
        Return *future*'s result.

        Raises:
            ConfigurationError: the brokers don't let us in, or don't let us do it.
            Unavailable: no answer.
        """
        try:
            return self.wait(future, timeout_s, role)
        except KafkaException as exc:
            raise self.failure(exc, role) from exc

    def wait(self, future: Any, timeout_s: float, role: Role | None = None) -> Any:
        """
        Return *future*'s result as `result` does, but raise its own KafkaException.

        Who isn't let in is told so in a few seconds: librdkafka would go on trying for all of the call's time.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                return future.result(_LOOK_S)
            except TimeoutError as exc:
                self.client.poll(0)
                if self.errors.locked_out or time.monotonic() > deadline_s:
                    raise self.failure(None, role) from exc

    def failure(self, exc: KafkaException | None, role: Role | None = None) -> RejoinderError:
        """Return what to raise for *exc*, None if a call only took too long."""
        told = exc is not None and exc.args[0].code() in FORBIDDEN | LOGIN
        deadline_s = time.monotonic() + (0 if told else TOLD_S)
        # An admin client tells its errors only while it is polled.
        while self.errors.refused is None and time.monotonic() < deadline_s:
            self.client.poll(0.05)
        return self.errors.failure(self._settings, exc.args[0] if exc else None, role)


def _who(settings: Settings) -> str:
    if name := settings.kafka.get("sasl.username"):
        return f"the user {name}"
    if name := settings.kafka.get("sasl.oauthbearer.client.id"):
        return f"the client {name}"
    return "this client"


def granted_by(role: Role | None) -> str:
    """Return how rights are granted."""
    which = f" --role {role.value} --principal {role.value}=User:NAME" if role else ""
    return f"an administrator grants what is needed by `rejoinder acls apply{which}` (`rejoinder acls show` lists it)"
