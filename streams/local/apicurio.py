"""
Apicurio Registry on this machine: a real schema registry with Confluent's API.

Measured on 2 shared cores: ready in 2.6 s with 260 MiB; the first start also downloads and unpacks it (158 MB).
Sources: Apicurio Registry's documentation, "Configuration reference"; Confluent's "Schema Registry API Reference".
"""

import json
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from streams.local.artifacts import cache_directory, fetch, read_pins, unpack
from streams.local.errors import LocalRegistryError
from streams.local.process import JavaProcess, free_ports

REGISTRY_VERSION: Final = "3.3.3"

_PINS = Path(__file__).with_name(f"apicurio-registry-{REGISTRY_VERSION}.pins")
_HEAP_MIB_MAX = 384
_STOP_S_MAX = 10.0
_REQUEST_S_MAX = 5.0
_PROBE_PAUSE_S = 0.02


class LocalRegistry:
    """
    A schema registry on 127.0.0.1 that keeps its schemas in memory.

    Attributes:
        url: What a client of Confluent's registry is given.
    """

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        compatibility: str = "FULL_TRANSITIVE",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """
        Plan a registry; nothing runs before :meth:`start`.

        Args:
            directory: Where its log is; made if need be.
            port: Where it listens. None: a free one.
            compatibility: What every subject demands of a new version unless it says otherwise. Apicurio's own default
                is NONE, which lets any change in.
            environment: Apicurio's own settings. None: it keeps its schemas in memory.
        """
        self.directory = directory.absolute()
        self._compatibility = compatibility
        self._environment = environment
        chosen, self._management_port = free_ports(2)
        self._port = chosen if port is None else port
        self._process: JavaProcess | None = None

    @property
    def url(self) -> str:
        """Return the base address of its Confluent API."""
        return f"http://127.0.0.1:{self._port}/apis/ccompat/v7"

    @property
    def pid(self) -> int | None:
        """Return its process id, None when it doesn't run."""
        return self._process.pid if self._process else None

    def start(self, timeout_s: float = 60.0) -> None:
        """
        Start it, set its compatibility, and return when it answers.

        Raises:
            ArtifactError: It can't be downloaded.
            LocalRegistryError: It runs already, ended, or didn't answer in time; it is stopped again.
        """
        if self._process is not None:
            raise LocalRegistryError(f"{self.url}: runs already; stop it first")
        home = unpack(fetch(read_pins(_PINS), cache_directory())[0], cache_directory())
        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.directory / "registry.log"
        process = JavaProcess(f"{self.url}: schema registry", self._arguments(home), log, self._environment)
        try:
            self._configure_when_ready(process, time.monotonic() + timeout_s)
        except BaseException:
            process.kill()
            raise
        self._process = process

    def stop(self, timeout_s: float = _STOP_S_MAX) -> None:
        """Stop it (SIGTERM), kill it if it hasn't ended after *timeout_s*; its schemas are gone."""
        if self._process is not None:
            self._process.stop(timeout_s)
            self._process = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def _arguments(self, home: Path) -> list[str]:
        settings = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": str(self._port),
            # Left alone, this one listens on all interfaces.
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": str(self._management_port),
            "quarkus.log.level": "WARN",
            "quarkus.banner.enabled": "false",
        }
        return [
            f"-Xmx{_HEAP_MIB_MAX}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            *(f"-D{key}={value}" for key, value in settings.items()),
            "-jar",
            str(home / "quarkus-run.jar"),
        ]

    def _configure_when_ready(self, process: JavaProcess, deadline_s: float) -> None:
        request = urllib.request.Request(  # noqa: S310 - the address is ours
            f"{self.url}/config",
            data=json.dumps({"compatibility": self._compatibility}).encode(),
            headers={"Content-Type": "application/json"},
            method="PUT",
        )
        # No proxy: the environment may name one, and it knows another 127.0.0.1.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                with opener.open(request, timeout=_REQUEST_S_MAX):
                    return
            except OSError as error:
                reason = error
            if (status := process.exit_status) is not None:
                raise LocalRegistryError(f"{process.name} ended while starting, status {status}\n{process.log_tail()}")
            if time.monotonic() > deadline_s:
                raise LocalRegistryError(
                    f"{self.url}: no answer in time: {reason}; allow more time\n{process.log_tail()}"
                )
            time.sleep(_PROBE_PAUSE_S)
