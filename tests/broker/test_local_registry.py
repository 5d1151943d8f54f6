"""The local schema registry is a real one, and strict."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from streams.local.apicurio import LocalRegistry

pytestmark = pytest.mark.system

HTTP_CONFLICT = 409


def post(url: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Post *schema* as a new version; return the answer."""
    request = urllib.request.Request(  # noqa: S310 - our own registry's.
        url,
        data=json.dumps({"schema": json.dumps(schema)}).encode(),
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        answered: dict[str, Any] = json.load(answer)
    return answered


def record(**fields: str) -> dict[str, Any]:
    """Return a record schema of *fields*, names to types."""
    return {
        "type": "record",
        "name": "Thing",
        "fields": [{"name": name, "type": kind} for name, kind in fields.items()],
    }


def test_incompatible_schema_is_refused(tmp_path: Path) -> None:
    """Strict from the start, and nothing of it can be reached from another machine."""
    with LocalRegistry(tmp_path) as registry:
        versions = f"{registry.url}/subjects/things/versions"
        assert {"id": 1} == post(versions, record(count="int"))
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(versions, record(count="string"))
        with refused.value:
            assert HTTP_CONFLICT == refused.value.code

        listening = [
            connection.laddr.ip for connection in psutil.Process(registry.pid).net_connections() if not connection.raddr
        ]
        assert {"127.0.0.1"} == {address.removeprefix("::ffff:") for address in listening}
