"""The guard of the hot path: it measures what it names, and stops at a bar."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from bench import guard
from tools import native


def test_step_that_became_slower_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """And only that one."""
    bars = guard.BARS[native.in_use()]
    least = {guard.BASELINE[native.in_use()]: 1e-6} | {name: bar * 0.8e-6 for name, bar in bars.items()}
    for name in {guard.JOIN, guard.IN_PYTHON} & least.keys():
        least[name] *= guard.PAIRS
    with patch("sys.argv", ["guard"]), patch.object(guard, "costs", lambda _: dict(least)):
        guard.main()
        least[guard.DECODE] *= 1.5
        with pytest.raises(SystemExit, match=r"slower.*: pair to messages \(Codec.decode\)$"):
            guard.main()
    assert f"bar {bars[guard.DECODE]:.3f}  {guard.DECODE}" in capsys.readouterr().out


def test_joins_are_joined() -> None:
    """What is timed does what it says: it fails itself if an order comes out without its e-mail."""
    guard.joins()()
