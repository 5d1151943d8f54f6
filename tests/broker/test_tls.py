"""TLS, logins and client certificates, at the brokers and at the schema registry; and what is said when they fail."""

from __future__ import annotations

import base64
import ssl
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from streams.errors import ConfigurationError, Unavailable
from streams.local.apicurio import LocalRegistry
from streams.registry import open_registry, register
from streams.settings import load
from tests.broker.certificates import Authority
from tests.broker.harness import wait_for
from tests.broker.secured import SecuredKafka, environment_by, password_of, run_here

pytestmark = pytest.mark.system

USER: Final = "shop"
PASSWORD: Final = "pass:word canary"  # noqa: S105 - nobody's.


@pytest.mark.parametrize("password", ["", "k3y canary"])
def test_client_certificate_is_a_login(password: str, secured: SecuredKafka, unique: str) -> None:
    """Its name is the principal that the ACLs are given to; its key may be encrypted."""
    name = f"{unique}-deployer"
    environment = environment_by(unique, secured.certified(name, password))
    ran = run_here(["topics", "apply"], environment)
    assert 2 == ran.returncode, ran.stderr
    assert "refuses this client" in ran.stderr
    plain = {"REJOINDER_BOOTSTRAP_SERVERS": secured.kafka.bootstrap_servers}
    who = ["--role", "deployer", "--principal", f"deployer=User:CN={name}"]
    granted = run_here(
        ["acls", "apply", *who], environment | plain | {"REJOINDER_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}
    )
    assert 0 == granted.returncode, granted.stderr
    wait_for(lambda: run_here(["topics", "apply"], environment).returncode == 0, "the ACLs are in force")
    ran = run_here(["topics", "diff"], environment)
    assert (0, "") == (ran.returncode, ran.stderr)


@pytest.fixture
def login(secured: SecuredKafka, unique: str) -> dict[str, str]:
    """Return the properties of a client that may look at everything of *unique*."""
    secured.add_users([unique])
    for operation in (AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS):
        secured.grant(f"User:{unique}", ResourceType.TOPIC, "*", operation)
    return secured.login(unique)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sasl.password": "wrong canary"}, "doesn't let the user {user} in"),
        ({"sasl.username": "nobody"}, "doesn't let the user nobody in"),
        ({"ssl.ca.location": "{other}"}, "certificate verify failed"),
        ({"ssl.ca.location": None}, "certificate verify failed"),
        ({"bootstrap.servers": "localhost.invalid:1"}, "does it run, and is it there"),
    ],
)
def test_who_is_not_let_in_is_told_why(
    changed: Mapping[str, str | None], says: str, login: dict[str, str], unique: str, tmp_path: Path
) -> None:
    """Not only that nobody answered; and without the password."""
    other = Authority(tmp_path / "other").ca
    for name, value in changed.items():
        if value is None:
            del login[name]
        else:
            login[name] = value.format(other=other)
    ran = run_here(["explain", "order-1"], environment_by(unique, login))
    assert says.format(user=unique) in ran.stderr
    assert (75 if "bootstrap.servers" in changed else 2) == ran.returncode, ran.stderr
    assert "canary" not in ran.stderr
    assert password_of(unique) not in ran.stderr


def test_name_in_the_brokers_certificate_is_checked(login: dict[str, str], unique: str) -> None:
    """Another name of this machine isn't in it."""
    login["bootstrap.servers"] = login["bootstrap.servers"].replace("127.0.0.1", "127.0.0.2")
    ran = run_here(["explain", "order-1"], environment_by(unique, login))
    assert 0 != ran.returncode
    assert "no topic" not in ran.stderr


def test_plain_connection_to_a_listener_with_tls_is_refused(login: dict[str, str], unique: str) -> None:
    """Nothing goes out in the clear."""
    login["security.protocol"] = "SASL_PLAINTEXT"
    ran = run_here(["explain", "order-1"], environment_by(unique, login))
    assert 0 != ran.returncode
    assert password_of(unique) not in ran.stderr


# The schema registry: Apicurio behind a proxy that ends TLS, asks for a login or a client certificate, and keeps count.


class Front(NamedTuple):
    """A schema registry with TLS."""

    url: str
    authority: Authority
    logins: list[str]
    """What each request carried in Authorization."""


def _front(inner: str, authority: Authority, *, certificates: bool) -> tuple[ThreadingHTTPServer, list[str]]:
    logins: list[str] = []
    expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            given = self.headers.get("Authorization", "")
            logins.append(given)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not certificates and given != expected:
                self._answer(401, "application/json", b'{"error_code": 40101, "message": "who are you?"}')
                return
            headers = {name: self.headers[name] for name in ("Content-Type", "Accept") if name in self.headers}
            asked = urllib.request.Request(inner + self.path, body or None, headers, method=self.command)  # noqa: S310
            try:
                with opener.open(asked, timeout=30) as answer:
                    self._answer(answer.status, answer.headers["Content-Type"], answer.read())
            except urllib.error.HTTPError as exc:
                with exc:
                    self._answer(exc.code, exc.headers["Content-Type"], exc.read())

        do_GET = do_POST = do_PUT = _pass_on  # noqa: N815 - the library's names.

        def _answer(self, status: int, kind: str | None, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind or "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Say nothing of handshakes that fail: they are what is tested."""

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    context.load_cert_chain(authority.sign(f"registry-{certificates}", server=True))
    context.verify_mode = ssl.CERT_REQUIRED if certificates else ssl.CERT_NONE
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, logins


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a plain registry."""
    with LocalRegistry(tmp_path_factory.mktemp("registry")) as running:
        yield running.url


@pytest.fixture(params=[False, True], ids=["login", "certificate"])
def front(request: pytest.FixtureRequest, registry: str, tmp_path: Path) -> Iterator[Front]:
    """Return it with TLS, and a login or client certificates."""
    authority = Authority(tmp_path / "authority")
    host, _, path = registry.partition("://")[2].partition("/")
    server, logins = _front(f"http://{host}", authority, certificates=request.param)
    yield Front(f"https://127.0.0.1:{server.server_address[1]}/{path}", authority, logins)
    server.shutdown()
    server.server_close()


def _credentials(front: Front, *, certificate: bool, password: str = "") -> dict[str, Any]:
    if not certificate:
        return {"schema_registry_username": USER, "schema_registry_password": PASSWORD}
    pem = front.authority.sign("client", password)
    given = {"schema_registry_certificate": pem, "schema_registry_key": pem}
    return given | ({"schema_registry_key_password": password} if password else {})


@pytest.mark.parametrize("password", ["", "k3y canary"])
def test_registry_is_asked_over_tls(front: Front, password: str, request: pytest.FixtureRequest, unique: str) -> None:
    """With a private authority, and a login or a client certificate whose key may be encrypted."""
    certificate = "certificate" in request.node.name
    settings = load(
        schema_registry_url=front.url,
        schema_registry_ca=front.authority.ca,
        topic_prefix=f"{unique}.",
        **_credentials(front, certificate=certificate, password=password),
    )
    assert register(settings)
    assert open_registry(settings).codec is not None
    expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    assert {"" if certificate else f"Basic {expected}"} == set(front.logins)


def test_registry_that_is_not_trusted_is_not_asked(front: Front) -> None:
    """No login goes to whoever has no certificate that we trust."""
    settings = load(schema_registry_url=front.url, schema_registry_username=USER, schema_registry_password=PASSWORD)
    with pytest.raises(Unavailable, match=r"(?i)certificate") as caught:
        open_registry(settings)
    assert "canary" not in str(caught.value)
    assert [] == front.logins


def test_registry_that_refuses_us_is_named_without_the_login(front: Front, request: pytest.FixtureRequest) -> None:
    """A wrong password is a wrong setting; a certificate that is missing ends the handshake."""
    settings = load(
        schema_registry_url=front.url,
        schema_registry_ca=front.authority.ca,
        schema_registry_username=USER,
        schema_registry_password="wrong canary",  # noqa: S106
    )
    with pytest.raises(Unavailable if "certificate" in request.node.name else ConfigurationError) as caught:
        open_registry(settings)
    assert front.url in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("what", ["schema_registry_ca", "schema_registry_certificate"])
def test_file_without_a_certificate_is_refused(what: str, tmp_path: Path) -> None:
    """Before anybody is asked."""
    (tmp_path / "x.pem").write_text("nothing")
    with pytest.raises(ConfigurationError, match="see the settings of its login, CA"):
        open_registry(load(schema_registry_url="https://127.0.0.1:1", **{what: tmp_path / "x.pem"}))
