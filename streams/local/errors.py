"""
What can go wrong with a local server.

    LocalServerError
    ├── ArtifactError        an artifact can't be had, or isn't the one that is pinned
    ├── LocalKafkaError      a broker doesn't start, answer or stop
    └── LocalRegistryError   the schema registry doesn't start or answer
"""

from streams.errors import RejoinderError


class LocalServerError(RejoinderError):
    """A server on this machine can't be used; says which, where and what to do."""


class ArtifactError(LocalServerError):
    """An artifact can't be downloaded, or its bytes aren't those that were pinned."""


class LocalKafkaError(LocalServerError):
    """A local Kafka broker doesn't start, answer or stop."""


class LocalRegistryError(LocalServerError):
    """The local schema registry doesn't start or answer."""
