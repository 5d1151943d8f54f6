"""
Known vulnerabilities of all locked dependencies: `./dev audit`.

pip-audit asks the package index, whose JSON has each release's advisories. A mirror may have none of them and still
answer, so a release that is known to be vulnerable is asked about too: an audit that finds nothing there means nothing.

Exit codes: 0 none is known; 1 some are, listed; 75 nobody could be asked, which `--allow-unreachable` makes a warning.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
KNOWN_BAD: Final = "jinja2==2.10"
"""CVE-2019-10906, and others since."""
FOUND: Final = 1
UNREACHABLE: Final = 75
AUDIT_S_MAX: Final = 600


class Finding(NamedTuple):
    """One advisory about one locked release."""

    package: str
    version: str
    advisory: str
    fixed_in: str


class Unreachable(Exception):
    """The vulnerability service doesn't answer, or has nothing to say."""


def main(arguments: list[str]) -> int:
    """Audit; return the exit code."""
    parser = argparse.ArgumentParser(prog="./dev audit", description="Vulnerabilities of the locked dependencies.")
    parser.add_argument("--allow-unreachable", action="store_true", help="only warn if the service can't be asked")
    parser.add_argument("--osv-url", metavar="URL", help="ask this OSV server's query address, not the package index")
    options = parser.parse_args(arguments)
    try:
        check_service(options.osv_url)
        findings, asked = audit(locked(), options.osv_url)
    except Unreachable as exc:
        print(f"audit: not done: {exc}", file=sys.stderr)
        return 0 if options.allow_unreachable else UNREACHABLE
    for finding in findings:
        print(f"{finding.package} {finding.version}: {finding.advisory}; fixed in {finding.fixed_in or 'no release'}")
    print(f"audit: {len(findings)} known vulnerabilities in {asked} locked dependencies")
    return FOUND if findings else 0


def check_service(osv_url: str | None) -> None:
    """
    Look whether the service knows of what everybody knows.

    Raises:
        Unreachable: it doesn't.
    """
    findings, _ = audit(f"{KNOWN_BAD}\n", osv_url)
    if not findings:
        raise Unreachable(f"the service answers, but knows nothing against {KNOWN_BAD}: it has no advisories")


def locked() -> str:
    """Return all locked dependencies, of every extra and group, as requirements."""
    # `uv run` says where it is itself, which need not be on PATH.
    command = [os.environ.get("UV", "uv"), "export", "--frozen", "--all-extras", "--all-groups"]
    options = ["--no-emit-project", "--no-hashes", "--quiet"]
    return subprocess.run([*command, *options], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def audit(requirements: str, osv_url: str | None) -> tuple[list[Finding], int]:
    """
    Return what is known against *requirements*, each pinned, and how many were asked about.

    Raises:
        Unreachable: the service doesn't answer, or not about all of them.
    """
    with tempfile.TemporaryDirectory() as directory:
        wanted, report = Path(directory) / "requirements.txt", Path(directory) / "report.json"
        wanted.write_text(requirements, encoding="utf-8")
        service = ["--vulnerability-service", "osv", "--osv-url", osv_url] if osv_url else []
        command = [
            sys.executable, "-m", "pip_audit", "--requirement", str(wanted), "--no-deps", "--disable-pip",
            "--progress-spinner", "off", "--format", "json", "--output", str(report), "--desc", "off", *service,
        ]  # fmt: skip
        ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=AUDIT_S_MAX)
        if not report.exists():
            lines = ran.stderr.strip().splitlines() or [f"pip-audit ended with {ran.returncode}"]
            raise Unreachable(lines[-1])
        return read(json.loads(report.read_text(encoding="utf-8")))


def read(report: dict[str, Any]) -> tuple[list[Finding], int]:
    """
    Return pip-audit's *report* as findings, and how many dependencies it is about.

    Raises:
        Unreachable: a dependency was left out: what isn't known isn't safe.
    """
    dependencies = report["dependencies"]
    if skipped := [f"{one['name']} ({one['skip_reason']})" for one in dependencies if "skip_reason" in one]:
        raise Unreachable(f"left out: {', '.join(skipped)}")
    findings = [
        Finding(one["name"], one["version"], advisory["id"], ", ".join(advisory["fix_versions"]))
        for one in dependencies
        for advisory in one["vulns"]
    ]
    return findings, len(dependencies)


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
