"""
Every setting, read from the environment once at start.

A name that isn't declared here, or a value that isn't allowed, is refused at start: a typing error in a deployment
must not become a default. ``REJOINDER_KAFKA_…`` passes any librdkafka property through: the rest of the name, in lower
case and with dots for underscores (``REJOINDER_KAFKA_SECURITY_PROTOCOL`` is ``security.protocol``). Secrets and passed
through properties may stand in files: ``REJOINDER_…_FILE``, see `streams.secrets`.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.durations import Duration, format_duration, parse_ask_ms, parse_duration_ms
from streams.errors import ConfigurationError
from streams.secrets import FILE_SUFFIX, SecretUrl, from_file, redact
from topology.policy import DAY_MS, NEVER_ASK, Policy
from topology.topics import PARTITIONS, REDRIVES, TOPICS

PREFIX: Final = "REJOINDER_"
KAFKA_PREFIX: Final = f"{PREFIX}KAFKA_"
# Where the local broker's jars are cached and the like: read by streams.local, no setting of a running service.
_ELSEWHERE: Final = frozenset({f"{PREFIX}CACHE_DIR"})

_OURS: Final = frozenset(
    {
        "auto.offset.reset", "bootstrap.servers", "client.id", "enable.auto.commit", "enable.auto.offset.store",
        "enable.idempotence", "enable.partition.eof", "group.id", "group.instance.id", "group.protocol",
        "group.remote.assignor", "isolation.level", "partition.assignment.strategy", "partitioner",
        "transaction.timeout.ms", "transactional.id",
    }
)  # fmt: skip
"""librdkafka's properties that nobody else may set."""


def _existing_file(text: object) -> object:
    """Return *text*, None for an empty one; a certificate that isn't there is found before anything starts."""
    if not text:
        return None
    if not os.access(str(text), os.R_OK) or not Path(str(text)).is_file():
        raise ValueError("no file that can be read")
    return text


PemFile = Annotated[Path | None, BeforeValidator(_existing_file)]


class Switch(Enum):
    """On or off."""

    ON = "on"
    OFF = "off"


class GroupProtocol(Enum):
    """The consumer group's protocol: KIP-848's, or the one of brokers before 4.0."""

    CONSUMER = "consumer"
    CLASSIC = "classic"


class InDoubt(Enum):
    """What the e-mail service does with a mail of which it can't know whether the mail server took it."""

    RESEND = "resend"
    HOLD = "hold"


class LogFormat(Enum):
    """How log lines look."""

    CONSOLE = "console"
    JSON = "json"


def _state_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "rejoinder"


_DEFAULTS: Final = Policy()


class Settings(BaseSettings):
    """The settings; each field ``name`` is the environment's ``REJOINDER_NAME``."""

    # Inputs are hidden in pydantic's own errors: one of them may be a secret. Ours say the value where it is none.
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    # Kafka.
    bootstrap_servers: str = Field(
        "127.0.0.1:9092",
        pattern=r"^[^\s,]+:\d+(,[^\s,]+:\d+)*$",
        description="Brokers to begin with: host:port, comma separated.",
    )
    application_id: str = Field(
        "rejoinder",
        pattern=r"^[a-zA-Z0-9._-]+$",
        max_length=200,
        description="Prefix of the consumer groups (-worker, -orders, -email) and of transactional ids.",
    )
    instance_id: str = Field(
        "",
        pattern=r"^[a-zA-Z0-9._-]*$",
        max_length=200,
        description=(
            "Names this process: one a live process, the same after a restart. Default: host name and web port."
        ),
    )
    group_protocol: GroupProtocol = Field(
        GroupProtocol.CONSUMER, description="consumer (KIP-848), or classic for brokers before 4.0."
    )
    static_membership: Switch = Field(
        Switch.OFF,
        description="on: a clean restart keeps its partitions without a rebalance; a killed one waits out its session.",
    )
    partitions: int = Field(PARTITIONS, ge=1, le=10_000, description="Partitions of each topic, for topics apply.")
    replication_factor: int = Field(3, ge=1, le=10, description="Replicas of each topic, for topics apply.")
    topic_prefix: str = Field(
        "", pattern=r"^[a-zA-Z0-9._-]*$", max_length=100, description="Put before every topic's name."
    )
    transaction_timeout: Duration = Field(
        15_000,
        ge=1_000,
        le=900_000,
        description="When the broker aborts a dead worker's transaction: until then nobody takes its partitions over.",
    )
    batch_records: int = Field(10_000, ge=1, le=100_000, description="Most records in one transaction.")
    linger: Duration = Field(
        100,
        ge=0,
        le=10_000,
        description=(
            "How long few records wait for more, if others came so shortly before: at medium load fewer and larger "
            "transactions. 0s: not at all, for half the latency at twice the CPU time."
        ),
    )
    headers: Switch = Field(Switch.ON, description="CloudEvents headers on what is produced.")

    # Schemas.
    schema_registry_url: SecretUrl = Field(
        SecretUrl("file:"),
        description="file: for the ids that come with the code, or a Confluent-compatible registry's http(s) URL.",
    )
    schema_registry_username: str = Field("", description="Login at the registry (basic authentication).")
    schema_registry_password: SecretStr = Field(SecretStr(""), description="The login's password.")
    schema_registry_ca: PemFile = Field(
        None, description="PEM file of the authorities that may sign the registry's certificate. Default: public ones."
    )
    schema_registry_certificate: PemFile = Field(
        None, description="PEM file of the client certificate for the registry, with its chain."
    )
    schema_registry_key: PemFile = Field(
        None, description="PEM file of its private key. Default: it is in the certificate's file."
    )
    schema_registry_key_password: SecretStr = Field(SecretStr(""), description="The private key's password.")

    # State and web.
    state_dir: Path = Field(
        default_factory=_state_home, description="Directory of the local state. Default: rejoinder in XDG_STATE_HOME."
    )
    store_memory_mib: int = Field(192, ge=16, description="Memory for the store's caches and buffers, all partitions.")
    web_bind: str = Field("127.0.0.1", description="Address that the web server listens on.")
    web_host: str = Field("", description="Host name under which other workers reach this one. Default: web_bind.")
    web_port: int = Field(6066, ge=1, le=65_535, description="The web server's port.")
    web_orders: Switch = Field(
        Switch.OFF, description="on: the web server answers questions about orders (/orders/ORDER_ID, `explain`)."
    )
    web_page: Switch = Field(
        Switch.OFF, description="on: a worker's web server has a page for people at /, which shows all at a glance."
    )
    web_token: SecretStr = Field(
        SecretStr(""),
        description=(
            "What whoever asks about orders, or looks at the page, must know; 16 characters or more. Optional if bound "
            "to loopback."
        ),
    )
    web_peers: str = Field(
        "",
        pattern=r"^([A-Za-z0-9.*_:/-]+(,[A-Za-z0-9.*_:/-]+)*)?$",
        description=(
            "Hosts that the token is sent to, beside loopback: names with * and networks, comma separated "
            "(*.rejoinder.svc,10.0.0.0/8)."
        ),
    )
    lag_interval: Duration = Field(
        15_000, ge=1_000, description="How often a process looks at its group's lag, for whoever scrapes /metrics."
    )
    log_format: LogFormat = Field(LogFormat.CONSOLE, description="console or json.")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="The least that is logged.")

    # The process's policy.
    ask: Annotated[int, BeforeValidator(parse_ask_ms)] = Field(
        _DEFAULTS.ask_after_ms, description='When order details are asked for: "at once", "after 500ms" or "never".'
    )
    details_max_age: Duration = Field(_DEFAULTS.details_max_age_ms, description="Younger details are used unasked.")
    details_ttl: Duration = Field(_DEFAULTS.details_ttl_ms, description="How long an order's details are kept.")
    retry_first: Duration = Field(_DEFAULTS.retry_first_ms, ge=1, description="Wait after the first try; it doubles.")
    retry_most: Duration = Field(_DEFAULTS.retry_most_ms, ge=1, description="The longest wait between tries.")
    not_found_attempts: int = Field(_DEFAULTS.not_found_attempts, ge=1, description="Answers «not found» until failed.")
    give_up_after: Duration = Field(_DEFAULTS.give_up_after_ms, ge=1, description="From the command to giving up.")
    email_attempts: int = Field(_DEFAULTS.email_attempts, ge=1, description="SendEmails of one command, at most.")
    email_outcome_wait: Duration = Field(
        _DEFAULTS.email_outcome_wait_ms, ge=1, description="How long an e-mail's outcome is waited for."
    )
    finished_ttl: Duration = Field(
        _DEFAULTS.finished_ttl_ms, ge=1, description="How long a finished process is remembered."
    )

    # The orders service.
    database_url: SecretUrl = Field(
        SecretUrl(""), description="SQLAlchemy URL of the orders. Default: SQLite in the state directory."
    )
    publish_changes: Switch = Field(Switch.OFF, description="on: orders are published unasked when they change.")

    # The e-mail service.
    smtp_url: SecretUrl = Field(
        SecretUrl("smtp://127.0.0.1:25"),
        description="The mail server: smtp:// or smtps://, with user:password@ if it wants them.",
    )
    smtp_ca: PemFile = Field(
        None,
        description="PEM file of the authorities that may sign the mail server's certificate. Default: public ones.",
    )
    email_from: str = Field("Orders <orders@example.com>", description="The mails' From.")
    email_domain: str = Field("", description="Right side of the Message-IDs. Default: the domain of email_from.")
    email_concurrency: int = Field(50, ge=1, le=1_000, description="Mails in sending at one time.")
    email_batch: int = Field(500, ge=1, le=10_000, description="Most mails in one transaction.")
    smtp_timeout: Duration = Field(30_000, ge=1_000, description="The longest that sending one mail may take.")
    in_doubt: InDoubt = Field(InDoubt.RESEND, description="Mails of which acceptance is unknown: resend or hold.")

    @field_validator("finished_ttl")
    @classmethod
    def _outlives_topics(cls, value: int) -> int:
        # But for the marks of what was put back: they can't be put back themselves.
        kept_ms = max(topic.retention_ms for topic in TOPICS if topic is not REDRIVES)
        if value <= kept_ms:
            days = kept_ms // DAY_MS
            raise ValueError(f"must be longer than any record is kept ({days}d), or a duplicate may find it forgotten")
        return value

    @field_validator("web_token")
    @classmethod
    def _hard_to_guess(cls, value: SecretStr) -> SecretStr:
        token = value.get_secret_value()
        if token and not re.fullmatch(r"[\x21-\x7e]{16,1024}", token):
            raise ValueError("must be 16 to 1024 visible ASCII characters; `openssl rand -hex 32` makes one")
        return value

    @property
    def policy(self) -> Policy:
        """The core's part of the settings."""
        return Policy(
            ask_after_ms=self.ask,
            details_max_age_ms=self.details_max_age,
            details_ttl_ms=self.details_ttl,
            retry_first_ms=self.retry_first,
            retry_most_ms=self.retry_most,
            not_found_attempts=self.not_found_attempts,
            give_up_after_ms=self.give_up_after,
            email_attempts=self.email_attempts,
            email_outcome_wait_ms=self.email_outcome_wait,
            finished_ttl_ms=self.finished_ttl,
        )

    @property
    def instance(self) -> str:
        """This process's name."""
        return self.instance_id or f"{socket.gethostname()}-{self.web_port}"

    @property
    def advertised_url(self) -> str:
        """Where other workers reach this one's web server."""
        return f"http://{self.web_host or self.web_bind}:{self.web_port}"

    @property
    def kafka(self) -> dict[str, str]:
        """Properties passed through to librdkafka."""
        return kafka_properties(os.environ)

    @property
    def orders_url(self) -> str:
        """The orders database."""
        return self.database_url.get_secret_value() or f"sqlite:///{self.state_dir / 'orders.sqlite'}"

    def topic(self, name: str) -> str:
        """Return *name* as the cluster knows it."""
        return self.topic_prefix + name


def kafka_properties(environ: Mapping[str, str]) -> dict[str, str]:
    """
    Return the librdkafka properties that *environ* sets, or that stand in files that it names.

    Raises:
        ConfigurationError: a file can't be read, or a property is set both ways.
    """
    found = {}
    for name, value in environ.items():
        if name.startswith(KAFKA_PREFIX):
            variable = name.removesuffix(FILE_SUFFIX)
            text = from_file(environ, variable) if variable != name else value
            found[variable.removeprefix(KAFKA_PREFIX).lower().replace("_", ".")] = str(text)
    return found


def secrets() -> list[str]:
    """Return the names of the settings that are secrets, or may hold one."""
    return [name for name, field in Settings.model_fields.items() if _is_secret(field.annotation)]


def _is_secret(annotation: Any) -> bool:
    """Return whether *annotation* is a secret's type."""
    return isinstance(annotation, type) and issubclass(annotation, SecretStr)


def is_loopback(host: str) -> bool:
    """Return whether *host* is this machine's loopback, by its name or address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def load(**overrides: Any) -> Settings:
    """
    Read the settings from the environment; *overrides* win.

    Raises:
        ConfigurationError: a name that doesn't exist, or a value that isn't allowed; says which and what is.
    """
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    known |= {f"{PREFIX}{name.upper()}{FILE_SUFFIX}" for name in secrets()}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and not name.startswith(KAFKA_PREFIX) and name not in known | _ELSEWHERE:
            # Without the prefix, which they all share.
            wrong, right = name.upper().removeprefix(PREFIX), [field.upper() for field in Settings.model_fields]
            near = difflib.get_close_matches(wrong, right, 1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else "`rejoinder settings` lists what there is"
            raise ConfigurationError(f"{name} is no setting; {hint}")
    _check_kafka(kafka_properties(os.environ))
    read = {name: from_file(os.environ, PREFIX + name.upper()) for name in secrets()}
    try:
        settings = Settings(**{name: text for name, text in read.items() if text is not None} | overrides)
    except ValidationError as exc:
        raise ConfigurationError("; ".join(_wrong(error) for error in exc.errors())) from exc
    _check_web(settings)
    return settings


def _check_web(settings: Settings) -> None:
    """
    Look whether what the web server serves is for everybody who reaches it.

    Raises:
        ConfigurationError: it isn't; says what would make it so.
    """
    if settings.web_token.get_secret_value() or is_loopback(settings.web_bind):
        return
    served = {"WEB_ORDERS": "read customers' orders", "WEB_PAGE": "look at the page"}
    for name, what in served.items():
        if getattr(settings, name.lower()) is Switch.ON:
            raise ConfigurationError(
                f"{PREFIX}{name}=on with REJOINDER_WEB_BIND={settings.web_bind!r}: whoever reaches the port could "
                f"{what}; set REJOINDER_WEB_TOKEN or REJOINDER_WEB_TOKEN_FILE, or bind to 127.0.0.1"
            )


def _wrong(error: ErrorDetails) -> str:
    """Return which setting is wrong, what is wrong with it, and what it is."""
    name = str(error["loc"][0])
    field = Settings.model_fields.get(name)
    if field is None:
        return f"{name} is no setting"
    variable = PREFIX + name.upper()
    given = "" if _is_secret(field.annotation) else f"={os.environ.get(variable, error['input'])!r}"
    what = error["msg"].removeprefix("Value error, ")
    if is_duration(name):  # Pydantic compares milliseconds and says so.
        what = re.sub(r"\d+$", lambda limit: format_duration(int(limit[0])), what)
    return f"{variable}{given}: {what} ({str(field.description).rstrip('.')})"


def _check_kafka(properties: Mapping[str, str]) -> None:
    """
    Let librdkafka look at what is passed through to it.

    Raises:
        ConfigurationError: it has no such property, doesn't take its value, or the property is ours; says which.
    """
    if not properties:
        return
    if ours := [KAFKA_PREFIX + name.upper().replace(".", "_") for name in properties if name in _OURS]:
        raise ConfigurationError(
            f"{', '.join(ours)}: can't be passed through: exactly-once rests on it, or it has a setting of its own"
        )
    if odd := [name for name, value in properties.items() if not _is_property(name, value)]:
        # Python's client crashes on what isn't UTF-8, and takes two names for something of its own.
        variables = ", ".join(ascii(KAFKA_PREFIX + name.upper().replace(".", "_"))[1:-1] for name in odd)
        raise ConfigurationError(f"{variables}: no property of librdkafka's, or its value isn't UTF-8")
    # Imported where it is needed: most deployments pass nothing through.
    from confluent_kafka import KafkaException, Producer  # noqa: PLC0415

    try:
        # Silent, because a producer grumbles at consumers' properties. Without brokers it connects to nobody.
        Producer({**properties, "log_level": 0})
    except KafkaException as exc:
        what = redact(exc.args[0].str(), properties)
        named = [name for name in properties if f'"{name}"' in what] or list(properties)
        variables = ", ".join(KAFKA_PREFIX + name.upper().replace(".", "_") for name in named)
        # Not chained: its own text may quote a secret.
        raise ConfigurationError(f"{variables}: {what}; allowed: librdkafka's configuration properties") from None


def _is_property(name: str, value: str) -> bool:
    """Return whether *name* may be a property of librdkafka's and *value* its text."""
    try:
        value.encode()
    except UnicodeEncodeError:  # Bytes of the environment that aren't UTF-8 are lone surrogates here.
        return False
    return re.fullmatch(r"[a-z0-9.]+", name) is not None and name not in ("logger", "default.topic.config")


def as_environment(name: str, value: Any) -> str:
    """Return the *value* of the setting *name* as the environment has it, secrets too."""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if value is None:
        return ""
    if name == "ask":
        return {0: "at once", NEVER_ASK: "never"}.get(value, f"after {format_duration(value)}")
    return format_duration(value) if is_duration(name) else str(value)


def is_duration(name: str) -> bool:
    """Return whether the setting *name* is a duration."""
    return any(
        isinstance(part, BeforeValidator) and part.func is parse_duration_ms
        for part in Settings.model_fields[name].metadata
    )
