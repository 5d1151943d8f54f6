"""schemas/readers.py: ``python -m tools.readers`` writes it, ``--check`` compares it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import schemas.codec
from schemas.catalog import Catalog
from schemas.checker import source
from schemas.codec import FRAME_BYTES
from tools.manifests import settle

MODULE: Final = Path(schemas.codec.__file__).parent / "readers.py"
HEAD: Final = '''"""
The strict readers of what the process manager reads. Generated from the schemas by `python -m tools.readers`.

What they do, and why they look as they do, is told in `checker`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from schemas.reading import SHAPES, SKIP, UUID, Reader, Refuse, block_at, length_at, long_at

if TYPE_CHECKING:
    from mypy_extensions import i64

'''


def module() -> str:
    """Return the module's text."""
    catalog = Catalog.from_files()
    parts, entries = [HEAD], []
    for record, (fields, _) in schemas.codec.INPUTS.items():
        schema, name = catalog.current(record), record.replace(".", "_")
        parts += "\n", source(schema, fields, FRAME_BYTES, name), "\n"
        entries.append(f"    ({schema.digest!r}, {fields!r}, {FRAME_BYTES}): {name},\n")
    parts += "\nREADERS: Final[dict[tuple[str, tuple[str, ...], int], Callable[[Refuse], Reader]]] = {\n", *entries
    parts.append('}\n"""By the schema\'s digest, the fields taken out, and where in a value the record begins."""\n')
    return "".join(parts)


def main(arguments: list[str]) -> None:
    """
    Write the module, or compare it.

    Raises:
        SystemExit: with ``--check``, it isn't what the schemas say; tells what to run.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.readers", description="Generate the readers.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the module is stale")
    if settle(MODULE.parent, {MODULE.name: module()}, check=parser.parse_args(arguments).check):
        raise SystemExit(f"{MODULE} isn't what the schemas say: run `python -m tools.readers` and commit it")


if __name__ == "__main__":
    main(sys.argv[1:])
