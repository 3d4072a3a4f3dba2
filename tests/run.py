"""Runs the tests: gets what they need, says what is missing, and sums up what was skipped.

./dev test                 everything
./dev test --fast          without the slow ones
./dev test -k journal -x   the rest of the line goes to pytest
./dev test --no-install    with what is there
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

from kit.needs import CACHE, NEEDS, ROOT, Need, install_missing


def main(arguments: list[str]) -> int:
    fast = "--fast" in arguments
    install = "--no-install" not in arguments
    passed = [one for one in arguments if one not in ("--fast", "--no-install")]
    missing = install_missing(say) if install else [n for n in NEEDS if n.find() is None]
    tell(missing)
    report = CACHE / "report.xml"
    CACHE.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", f"--junitxml={report}"]
    if not any(one in {"--pdb", "-s", "--collect-only"} or one.startswith("-n") for one in passed):
        command += ["-n", "2"]
    if fast:
        command += ["-m", "not slow"]
    code = subprocess.run([*command, *passed], cwd=ROOT, check=False).returncode
    sum_up(report)
    tell(missing)
    return code


def tell(missing: list[Need]) -> None:
    for need in missing:
        say(f"MISSING: {need.name}; skipped because of it: {need.used_by}")


def sum_up(report: Path) -> None:
    """Skips by reason, from pytest's own report."""
    if not report.exists():
        return
    reasons: Counter[str] = Counter()
    for case in ET.parse(report).iter("testcase"):
        for skipped in case.findall("skipped"):
            reasons[skipped.get("message", "no reason given")] += 1
    say(f"{sum(reasons.values())} tests were skipped" + (":" if reasons else ""))
    for reason, count in reasons.most_common():
        say(f"  {count:4}  {reason}")


def say(text: str) -> None:
    print(f"test: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
