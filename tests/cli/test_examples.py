"""`rejoinder examples` on SQLite."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from streams.cli import app
from streams.services.orders.database import Database


def test_examples_are_added_once_and_stay_as_they_are(tmp_path: Path) -> None:
    """A step of every `up`: more of them are added, those that somebody changed aren't put back."""
    environment = {"REJOINDER_STATE_DIR": str(tmp_path / "new"), "REJOINDER_DATABASE_URL": ""}
    first = CliRunner().invoke(app, ["examples", "--orders", "3"], env=environment)
    assert (0, "order-000001 to order-000003 are there\n") == (first.exit_code, first.stdout)
    with Database(f"sqlite:///{tmp_path / 'new' / 'orders.sqlite'}") as database:
        assert 2 == database.change("order-000002", shipping_address="elsewhere")
        assert 0 == CliRunner().invoke(app, ["examples", "--orders", "5"], env=environment).exit_code
        assert 5 == database.count()
        assert 2 == database.details_of(["order-000002"])["order-000002"]["version"]
