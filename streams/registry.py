"""
The schema registry: which ids the schemas have, asked at start and whenever an unknown id turns up.

``file:`` is the registry that comes with the code. Any other is a Confluent-compatible one. Workers only look up:
schemas are registered by a deploy step (`register`), under TopicRecordNameStrategy's subjects.

Source: Confluent, "Schema Registry API Reference", "Subject name strategy".
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from urllib.parse import urlsplit

from schemas import compatibility
from schemas.catalog import Catalog, UnknownSchema, current_text
from schemas.codec import Codec
from schemas.record_schema import RecordSchema
from streams.errors import ConfigurationError, Unavailable
from streams.secrets import without_login
from streams.settings import Settings
from topology.topics import TOPICS

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

FILE: Final = "file:"
COMPATIBILITY: Final = "FULL_TRANSITIVE"

TIMEOUT_S: Final = 5.0
RETRIES: Final = 1
RETRY_WAIT_MS: Final = 200

UNKNOWN_S: Final = 5.0
"""How long an id that nobody knows isn't asked for again: a producer registers before it produces."""
UNKNOWN_MAX: Final = 1_000
QUESTIONS_MAX: Final = 50
"""Unknown ids that may be asked for at once; spent, they come back at `QUESTIONS_PER_S`: poison costs little time."""
QUESTIONS_PER_S: Final = 2.0

ID_MAX: Final = (1 << 31) - 1
"""A registry's ids are Java ints; some answer a larger one as if the question itself were at fault."""

_NOT_FOUND: Final = 404
_NO_SUCH_ID: Final = frozenset({400, _NOT_FOUND, 422})
_CONFLICT: Final = 409
_BUSY: Final = frozenset({408, 429})
_SERVER_ERROR: Final = 500


class Subject(NamedTuple):
    """Where a registry keeps the versions of one record on one topic."""

    name: str
    record: str


class Version(NamedTuple):
    """A version that a registry has."""

    version: int
    schema_id: int
    text: str


class Registered(NamedTuple):
    """What `register` found or made."""

    subject: str
    schema_id: int


def subjects(settings: Settings) -> list[Subject]:
    """Return the subjects of all our records, by TopicRecordNameStrategy."""
    return [Subject(f"{settings.topic(topic.name)}-{record}", record) for topic in TOPICS for record in topic.records]


class Registry:
    """The codec of the current schemas, and how it learns more ids."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self.codec = Codec(catalog)
        self._catalog = catalog
        self._settings = settings
        self._unknown_until_s: dict[int, float] = {}
        """In the order in which they end."""
        self._remote: _Remote | None = None
        self._questions = float(QUESTIONS_MAX)
        self._counted_s = time.monotonic()

    def resolve(self, schema_id: int) -> None:
        """
        Teach the codec *schema_id*, which it doesn't know.

        Raises:
            UnknownSchema: there is no such schema, it is none of an Avro record, or too many unknown ids came lately
                to ask for each of them.
            Unavailable: the registry gives no answer; nothing is known yet.
        """
        if _is_file(self._settings) or schema_id > ID_MAX:
            self.resolve_stored(schema_id)  # It says so without asking anybody.
        now_s = time.monotonic()
        if now_s < self._unknown_until_s.get(schema_id, now_s):
            raise UnknownSchema(schema_id, "the schema registry doesn't know it")
        self._count(now_s)
        if self._questions < 1:
            raise UnknownSchema(schema_id, "not asked for: a flood of unknown ids; put it back when that is over")
        try:
            self.resolve_stored(schema_id)
        except UnknownSchema:
            self._questions -= 1
            self._remember(schema_id, now_s)
            raise

    def resolve_stored(self, schema_id: int) -> None:
        """
        Teach the codec *schema_id*, which a row of ours holds: asked for at once, whatever is refused meanwhile.

        Raises:
            UnknownSchema, Unavailable: see `resolve`.
        """
        if _is_file(self._settings):
            raise UnknownSchema(schema_id, "not among the ids that come with the code (schemas/ids.json)")
        if schema_id > ID_MAX:
            raise UnknownSchema(schema_id, "larger than a schema registry's ids can be")
        try:
            self._remote = self._remote or _Remote(self._settings)
            self._learn(self._remote, schema_id)
        except Unavailable:
            # What broke the connection may have broken the client.
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection; the next question makes a new one."""
        remote, self._remote = self._remote, None
        if remote is not None:
            remote.close()

    def _count(self, now_s: float) -> None:
        self._questions = min(QUESTIONS_MAX, self._questions + (now_s - self._counted_s) * QUESTIONS_PER_S)
        self._counted_s = now_s

    def _remember(self, schema_id: int, now_s: float) -> None:
        """Remember that nobody knows *schema_id*; the oldest such memory makes room."""
        unknown = self._unknown_until_s
        unknown.pop(schema_id, None)
        if len(unknown) >= UNKNOWN_MAX:
            del unknown[next(iter(unknown))]
        unknown[schema_id] = now_s + UNKNOWN_S

    def _learn(self, remote: _Remote, schema_id: int) -> None:
        text = remote.schema(schema_id)
        try:
            self._catalog.add(schema_id, text)
        except ValueError as exc:
            raise UnknownSchema(schema_id, f"{remote} has something else by it: {exc}") from exc


def open_registry(settings: Settings) -> Registry:
    """
    Return the registry that *settings* name, with the current schemas' ids looked up.

    Raises:
        ConfigurationError: a schema isn't registered or released, or the registry refuses us.
        Unavailable: the registry gives no answer.
    """
    if _is_file(settings):
        catalog = Catalog.from_files()
    else:
        catalog = Catalog.without_ids()
        with _Remote(settings) as remote:
            for subject in subjects(settings):
                _look_up(remote, subject, catalog)
    try:
        return Registry(catalog, settings)
    except KeyError as exc:
        raise ConfigurationError(
            f"{exc.args[0]} isn't released as it is now: `rejoinder schemas check` says what to do"
        ) from exc


def _look_up(remote: _Remote, subject: Subject, catalog: Catalog) -> None:
    """Teach *catalog* all versions of *subject*: stored halves of orders may be older than the current schema."""
    contract = catalog.current(subject.record).contract
    current_id = None
    for version in remote.versions(subject.name):
        if catalog.add(version.schema_id, version.text).contract == contract:
            current_id = version.schema_id
    if current_id is None:
        raise ConfigurationError(
            f"{remote}: subject {subject.name} doesn't have the schema that this release writes;"
            " run `rejoinder schemas register` first"
        )
    catalog.write_with(subject.record, current_id)


def register(settings: Settings) -> list[Registered]:
    """
    Register the current schemas, each under its subject, which is made to demand FULL_TRANSITIVE; safe to repeat.

    Raises:
        ConfigurationError: a schema is incompatible with a registered version, or the registry refuses us.
        Unavailable: the registry gives no answer; what was registered until then stays.
    """
    if _is_file(settings):
        return []
    with _Remote(settings) as remote:
        return [
            Registered(subject, remote.register(subject, current_text(record)))
            for subject, record in subjects(settings)
        ]


def check(settings: Settings) -> list[str]:
    """
    Return what is wrong with the working tree's schemas, a sentence each; none if they may be released.

    Against ``file:`` all released versions are asked, against a registry all of its versions.

    Raises:
        ConfigurationError: the registry refuses us.
        Unavailable: the registry gives no answer.
    """
    if _is_file(settings):
        return compatibility.problems()
    found = []
    with _Remote(settings) as remote:
        for subject, record in subjects(settings):
            versions = [(f"{subject} version {version.version}", version.text) for version in remote.versions(subject)]
            found += compatibility.conflicts([*versions, (f"{record} as it is now", current_text(record))])
    return found


class _Remote:
    """A Confluent-compatible registry; its errors told apart by what they ask for."""

    def __init__(self, settings: Settings) -> None:
        url = settings.schema_registry_url.get_secret_value()
        try:
            parts = urlsplit(url)
            port = f":{parts.port}" if parts.port else ""
        except ValueError as exc:
            raise ConfigurationError(f"REJOINDER_SCHEMA_REGISTRY_URL: {without_login(url)!r} is no URL") from exc
        # No user or password: this goes into messages.
        self._name = f"schema registry {parts.scheme}://{parts.hostname}{port}{parts.path}"
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                f"REJOINDER_SCHEMA_REGISTRY_URL must be {FILE} or an http(s) URL; its scheme is {parts.scheme!r}"
            )
        self._client = _client(url, settings)

    def __str__(self) -> str:
        return self._name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def schema(self, schema_id: int) -> str:
        """Return the schema of *schema_id* as JSON."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415 - see _client.

        with self._errors():
            try:
                schema = self._client.get_schema(schema_id)
            except SchemaRegistryError as exc:
                if exc.http_status_code in _NO_SUCH_ID:
                    raise UnknownSchema(schema_id, f"{self} doesn't know it") from exc
                raise
        if schema.schema_type not in (None, "AVRO") or schema.references or schema.schema_str is None:
            raise UnknownSchema(schema_id, f"{self} has no Avro schema by it that is complete in itself")
        return schema.schema_str

    def versions(self, subject: str) -> list[Version]:
        """Return all versions of *subject*, oldest first; none if there is no such subject."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415 - see _client.

        with self._errors(subject):
            try:
                numbers = self._client.get_versions(subject)
            except SchemaRegistryError as exc:
                if exc.http_status_code == _NOT_FOUND:
                    return []
                raise
            found = [self._client.get_version(subject, number) for number in sorted(numbers)]
        return [
            Version(one.version or 0, one.schema_id or 0, one.schema.schema_str or "") for one in found if one.schema
        ]

    def register(self, subject: str, text: str) -> int:
        """Register *text* under *subject* unless it is; return its id."""
        from confluent_kafka.schema_registry import Schema  # noqa: PLC0415 - see _client.

        with self._errors(subject):
            contract = RecordSchema.parse(text).contract
            for version in self.versions(subject):
                if RecordSchema.parse(version.text).contract == contract:
                    return version.schema_id
            self._client.set_compatibility(subject, COMPATIBILITY)
            return self._client.register_schema(subject, Schema(text, "AVRO"))

    @contextmanager
    def _errors(self, subject: str = "") -> Iterator[None]:
        """Raise what the client raises as `ConfigurationError` or `Unavailable`."""
        import httpx2  # noqa: PLC0415 - see _client.
        from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415

        where = f"{self}, subject {subject}" if subject else str(self)
        try:
            yield
        except httpx2.HTTPError as exc:
            raise Unavailable(f"{self} doesn't answer: {exc or type(exc).__name__}") from exc
        except SchemaRegistryError as exc:
            status = exc.http_status_code
            if status in _BUSY or status >= _SERVER_ERROR:
                raise Unavailable(f"{where}: {exc}") from exc
            if status == _CONFLICT:
                raise ConfigurationError(
                    f"{where}: the schema is incompatible with a registered version: {exc.error_message};"
                    " `rejoinder schemas check` says where"
                ) from exc
            raise ConfigurationError(f"{where} refuses: {exc}") from exc


def _is_file(settings: Settings) -> bool:
    return settings.schema_registry_url.get_secret_value() == FILE


def _client(url: str, settings: Settings) -> SchemaRegistryClient:
    # Imported when a registry is used: half a second that ``file:`` needn't wait for.
    from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415

    conf: dict[str, Any] = {"url": url, "timeout": TIMEOUT_S, "max.retries": RETRIES, "retries.wait.ms": RETRY_WAIT_MS}
    if settings.schema_registry_username:
        password = settings.schema_registry_password.get_secret_value()
        conf["basic.auth.user.info"] = f"{settings.schema_registry_username}:{password}"
    for name, value in (
        ("ssl.ca.location", settings.schema_registry_ca),
        ("ssl.certificate.location", settings.schema_registry_certificate),
        ("ssl.key.location", settings.schema_registry_key),
        ("ssl.key.password", settings.schema_registry_key_password.get_secret_value()),
    ):
        if value:
            conf[name] = str(value)
    try:
        return SchemaRegistryClient(conf)
    except (ValueError, OSError) as exc:  # What ssl makes of a certificate or key that it can't read is an OSError.
        raise ConfigurationError(
            f"REJOINDER_SCHEMA_REGISTRY_…: {type(exc).__name__}: {exc}; see the settings of its login, CA, certificate "
            "and key"
        ) from None
