"""schemas/readers.py: it is what the schemas say, and compile_reader takes it from there."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas import codec
from schemas.catalog import Catalog
from schemas.checker import compile_reader
from tools import readers


def test_committed_module_is_what_the_schemas_say() -> None:
    """Who changes a schema runs ``python -m tools.readers``."""
    readers.main(["--check"])


def test_stale_module_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And told what to run; which makes it anew."""
    stale = tmp_path / "readers.py"
    stale.write_text("old")
    monkeypatch.setattr(readers, "MODULE", stale)
    with pytest.raises(SystemExit, match=r"python -m tools\.readers"):
        readers.main(["--check"])
    readers.main([])
    readers.main(["--check"])


def test_process_manager_reads_by_the_generated_ones() -> None:
    """Else what was compiled ahead would lie there unused."""
    catalog = Catalog.from_files()
    for record, (fields, _) in codec.INPUTS.items():
        read = compile_reader(catalog.current(record), fields, codec.FRAME_BYTES)
        assert "schemas.readers" == getattr(read, "__module__", type(read).__module__), record
