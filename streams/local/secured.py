"""What makes a local Kafka demand TLS and logins, and allow nobody anything by itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Secured(NamedTuple):
    """
    Listeners with TLS, beside the plain one, and an authorizer.

    The plain listener is the administrator's, from this machine: nobody logs in there, and User:ANONYMOUS is a super
    user, who makes the SCRAM logins and the ACLs.

    Attributes:
        ca: PEM file of the authority that signed the clients' certificates.
        certificate: PEM file of the brokers' private key (PKCS 8) and certificate.
        properties: Broker settings that go before these.
    """

    ca: Path
    certificate: Path
    properties: Mapping[str, str] = {}

    def broker_properties(self, ports: Mapping[str, int]) -> dict[str, str]:
        """Return the broker's settings; *ports* of the listeners CLIENT, CONTROLLER, SASL and MTLS."""
        return {
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items()),
            "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL,MTLS:SSL",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "listener.name.mtls.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.certificate),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca),
            **self.properties,
        }
