"""
``./dev fuzz``: the targets under a coverage-guided fuzzer, each from its golden bytes.

    python -m tests.fuzz [--target NAME] [--seconds N] [--corpus DIRECTORY]

What it finds interesting is kept in the corpus' directory, for the next time. An input on which a target fails is
printed, and is in that directory as crash-…; run it again by ``--input FILE``.

Source: atheris, a coverage-guided fuzzer for Python on libFuzzer.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

TARGETS: Final = ("codec", "state", "timeline", "ledger", "headers")
BYTES_MAX: Final = 4_096


def main() -> int:
    """Fuzz one target here, or each in a process of its own; return the exit status."""
    parser = argparse.ArgumentParser(prog="./dev fuzz", description="Fuzz by coverage.")
    parser.add_argument("--target", choices=TARGETS, help="one of them; default: all, one after the other")
    parser.add_argument("--seconds", type=int, default=60, help="of each target (default: 60)")
    parser.add_argument("--corpus", type=Path, help="directory to keep the corpus in; default: a temporary one")
    parser.add_argument("--input", type=Path, help="run the target on this file's bytes, once")
    options = parser.parse_args()
    if options.input is not None:
        if options.target is None:
            parser.error("--input needs --target")
        from tests.fuzz import targets  # noqa: PLC0415 - else it must be imported under instrumentation.

        targets.TARGETS[options.target][0](options.input.read_bytes())
        sys.stdout.write("nothing is wrong with it\n")
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        corpus = options.corpus or Path(temporary)
        if options.target is not None:
            _fuzz(options.target, options.seconds, corpus / options.target)
        for target in TARGETS:
            arguments = ["--target", target, "--seconds", str(options.seconds), "--corpus", str(corpus)]
            if status := subprocess.call([sys.executable, "-m", "tests.fuzz", *arguments]):
                return status
    return 0


def _fuzz(name: str, seconds: int, corpus: Path) -> None:
    """Fuzz until *seconds* are over or something is found; ends the process."""
    import atheris  # noqa: PLC0415 - only here: it needs seconds, and isn't there on every platform.

    with atheris.instrument_imports(include=["schemas", "streams", "topology", "tests.fuzz.targets"]):
        from schemas import checker  # noqa: PLC0415 - instrumented as it is imported.

        compile_reader = checker.compile_reader
        # Readers are made at run time, and their branches are what there is to find.
        checker.compile_reader = lambda *args, **named: atheris.instrument_func(compile_reader(*args, **named))
        from tests.fuzz import targets  # noqa: PLC0415

    target, golden = targets.TARGETS[name]
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(golden()):
        (corpus / f"golden-{number}").write_bytes(data)
    arguments = [
        f"-max_total_time={seconds}", f"-max_len={BYTES_MAX}", f"-artifact_prefix={corpus}/", "-print_final_stats=1",
        "-verbosity=0" if not sys.stdout.isatty() else "-verbosity=1", str(corpus),
    ]  # fmt: skip
    sys.stdout.write(f"{name}: {seconds} s\n")
    sys.stdout.flush()
    atheris.Setup([sys.argv[0], *arguments], target)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
