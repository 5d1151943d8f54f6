"""``rejoinder worker``, ``orders`` and ``email``: the long-running processes."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from streams import logs
from streams import settings as settings_module
from streams.frame import App
from streams.settings import Settings

WebPort = Annotated[
    int | None, typer.Option(help="Port of the web server; overrides REJOINDER_WEB_PORT.", show_default=False)
]
InstanceId = Annotated[
    str | None,
    typer.Option(
        help="Name of this process, the same after a restart; overrides REJOINDER_INSTANCE_ID.", show_default=False
    ),
]


# glibc's numbers of these parameters.
_M_ARENA_MAX: Final = -8
_M_MMAP_THRESHOLD: Final = -3


def worker(web_port: WebPort = None, instance_id: InstanceId = None) -> None:
    """
    Run a worker: the process manager itself. Start as many as there are partitions, at most.

    Stops on SIGTERM or Ctrl-C after the batch under way. Settings come from the environment: `rejoinder settings`.
    """
    from streams.app import create_app  # noqa: PLC0415 - each role loads its own libraries.

    _run(create_app, web_port, instance_id)


def orders(web_port: WebPort = None, instance_id: InstanceId = None) -> None:
    """Run the orders service: answers GetOrderDetails from its database (REJOINDER_DATABASE_URL)."""
    from streams.orders import create_app  # noqa: PLC0415 - see worker.

    _run(create_app, web_port, instance_id)


def email(web_port: WebPort = None, instance_id: InstanceId = None) -> None:
    """Run the e-mail service: sends each SendEmail by SMTP (REJOINDER_SMTP_URL), once."""
    from streams.email import create_app  # noqa: PLC0415 - see worker.

    _run(create_app, web_port, instance_id)


def _run(create_app: Callable[[Settings], App], web_port: int | None, instance_id: str | None) -> None:
    from faust import Worker  # noqa: PLC0415 - `rejoinder --help` needn't wait for it.

    overrides: dict[str, Any] = {
        name: value for name, value in {"web_port": web_port, "instance_id": instance_id}.items() if value is not None
    }
    settings = settings_module.load(**overrides)
    # State holds customers' data: whatever a library creates is its owner's alone.
    os.umask(0o077)
    app = create_app(settings)
    runner = Worker(app, loglevel=settings.log_level, override_logging=False, redirect_stdouts=False)
    runner.spinner = None  # It writes a terminal's codes among the log lines.
    logs.configure(settings)
    collect_rarely()
    keep_memory_together()
    try:
        runner.execute_from_commandline()
    except SystemExit:
        if app.failure is not None:
            raise app.failure from None
        raise


def collect_rarely() -> None:
    """
    Let the cyclic garbage collector look rarely, and never again at what start-up made.

    A batch makes hundreds of thousands of objects and no cycles: reference counts free them. Measured on plain joins,
    the collector's looking at them took 30 % of a worker's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


def keep_memory_together() -> None:
    """
    Let all threads take memory from one of glibc's arenas, and large blocks from the system, where it is glibc.

    Its default, up to eight arenas a core, leaves each thread of librdkafka's and RocksDB's with free memory of its own
    that no other can use; and RocksDB's write buffers, once given back, lie scattered in it. Measured on plain joins:
    100 of 520 MiB, and no more time.

    Source: mallopt(3), M_ARENA_MAX and M_MMAP_THRESHOLD.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)
