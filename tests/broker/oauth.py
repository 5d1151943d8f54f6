"""A broker that lets in who has a signed token, and the identity provider that gives tokens (OAuth 2.0, OIDC)."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final
from unittest.mock import patch
from urllib.parse import parse_qs

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from streams.local import kafka as local_kafka
from streams.local.kafka import LocalKafka
from streams.local.process import free_ports

AUDIENCE: Final = "kafka"
KEY_ID: Final = "test"
TOKEN_S: Final = 10
"""So short that a test of some seconds sees tokens renewed: librdkafka does so after 80 % of it."""
_LISTENER: Final = "OAUTH"
_HANDLER: Final = "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"
_LOGIN: Final = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required ;"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value: int) -> str:
    return _encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class IdentityProvider:
    """Gives a token by client credentials (RFC 6749, section 4.4) to each of *clients*, whose secrets these are."""

    def __init__(self, clients: dict[str, str]) -> None:
        self.given: list[str] = []
        """The client of each token, in the order in which they were given."""
        self._clients = clients
        self._key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, provider.keys())

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
                scheme, _, credentials = self.headers.get("Authorization", "").partition(" ")
                client, _, secret = base64.b64decode(credentials).decode().partition(":")
                if (scheme, form.get("grant_type")) != ("Basic", ["client_credentials"]):
                    self._answer(400, {"error": "invalid_request"})
                elif not secret or provider._clients.get(client) != secret:
                    self._answer(401, {"error": "invalid_client"})
                else:
                    provider.given.append(client)
                    token = provider.token(client)
                    self._answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_S})

            def _answer(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def keys(self) -> dict[str, Any]:
        """Return the key that tokens are signed with (RFC 7517)."""
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID}
        return {"keys": [key | {"n": _number(numbers.n), "e": _number(numbers.e)}]}

    def token(self, client: str, audience: str = AUDIENCE) -> str:
        """Return a token for *client* (RFC 7519), signed by RS256."""
        now_s = int(time.time())
        head = {"alg": "RS256", "typ": "JWT", "kid": KEY_ID}
        claims = {
            "iss": self.url, "aud": audience, "sub": client, "scope": "kafka", "iat": now_s, "exp": now_s + TOKEN_S,
        }  # fmt: skip
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), SHA256())
        return f"{signed}.{_encoded(signature)}"

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def oauth_kafka(directory: Path, provider: IdentityProvider) -> Iterator[tuple[LocalKafka, str]]:
    """Run a broker with a listener for tokens of *provider*, who are checked by its keys; yield that one's address."""
    kafka = LocalKafka(directory)
    (port,) = free_ports(1)
    prefix = f"listener.name.{_LISTENER.lower()}"
    kafka._properties |= {
        "listeners": f"{kafka._listeners(0)['listeners']},{_LISTENER}://127.0.0.1:{port}",
        "advertised.listeners": f"CLIENT://{kafka.bootstrap_servers},{_LISTENER}://127.0.0.1:{port}",
        "listener.security.protocol.map": f"CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,{_LISTENER}:SASL_PLAINTEXT",
        f"{prefix}.sasl.enabled.mechanisms": "OAUTHBEARER",
        f"{prefix}.oauthbearer.sasl.server.callback.handler.class": _HANDLER,
        f"{prefix}.oauthbearer.sasl.jaas.config": _LOGIN,
        f"{prefix}.sasl.oauthbearer.jwks.endpoint.url": f"{provider.url}/keys",
        f"{prefix}.sasl.oauthbearer.expected.audience": AUDIENCE,
        f"{prefix}.sasl.oauthbearer.expected.issuer": provider.url,
        # Who is connected has to log in again before its token ends (KIP-368).
        f"{prefix}.oauthbearer.connections.max.reauth.ms": "3600000",
    }
    # Brokers ask no address for keys that isn't allowed to them when they start.
    allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={provider.url}/keys"
    with patch.object(local_kafka, "_JVM_OPTIONS", (*local_kafka._JVM_OPTIONS, allowed)):
        kafka.start()
    try:
        yield kafka, f"127.0.0.1:{port}"
    finally:
        kafka.stop()
