"""Adds unit tests to the file that stands beside a config."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

from openmeter_collector.config import Config, InvalidConfig
from openmeter_collector.config.load import plain_values
from openmeter_collector.config.unit_tests import SUFFIX
from openmeter_collector.errors import ConfigError

_HEAD: Final = "tests:\n"
_MOST_BYTES: Final = 4 << 20


class TestsBeside:
    """The file with the tests of one config. What is in it stays as it is written."""

    __test__ = False  # no test itself

    def __init__(self, config_file: Path, config: Config) -> None:
        """Look where tests of this config go.

        Raises:
            ConfigError: they stand in the config itself, which a file beside it would hide.
        """
        if config.tests:
            raise ConfigError(
                f"{config_file}: has tests in itself, and those in a file beside it would replace "
                f"them; move them to {config_file.stem}{SUFFIX}{config_file.suffix}, or do not "
                "write tests"
            )
        self.path = config_file.with_name(config_file.stem + SUFFIX + config_file.suffix)

    def add(self, text: str) -> None:
        """Add the case of a document in YAML that holds only `tests`.

        Raises:
            ConfigError: the file is written in a way that nothing can be added to by a program.
        """
        wanted = plain_values(text)
        before = self._read()
        known = self._values(before) if before.strip() else {}
        tests = known.get("tests") or []
        expected = known | {"tests": [*tests, *wanted["tests"]]}
        item = text.removeprefix(_HEAD)
        head = before if tests else before + _HEAD
        for new in (head + item, head + _dedented(item)):
            if self._says(new, expected):
                self._write(new)
                return
        raise ConfigError(
            f"{self.path}: a test cannot be added at its end; make `tests:` the last key, written as "
            "a list with dashes, or add the case by hand"
        )

    def _read(self) -> str:
        try:
            if self.path.stat().st_size > _MOST_BYTES:
                raise ConfigError(f"{self.path}: larger than {_MOST_BYTES} bytes; add it by hand")
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.path}: cannot be read: {error}") from None
        return text if not text or text.endswith("\n") else text + "\n"

    def _values(self, text: str) -> dict[str, Any]:
        try:
            found = plain_values(text)
        except InvalidConfig as error:
            raise ConfigError(f"{self.path}: {error}; mend it first") from None
        return found if isinstance(found, dict) else {}

    def _says(self, text: str, expected: dict[str, Any]) -> bool:
        try:
            return bool(plain_values(text) == expected)
        except InvalidConfig:
            return False

    def _write(self, text: str) -> None:
        """Replaced as a whole: whoever reads it sees the old or the new one."""
        try:
            mode = self.path.stat().st_mode & 0o777 if self.path.exists() else 0o644
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=self.path.parent, prefix=".tests-", delete=False
            ) as file:
                file.write(text)
            Path(file.name).chmod(mode)
            Path(file.name).replace(self.path)
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written: {error.strerror}") from None


def _dedented(item: str) -> str:
    """List items at the margin, as many people write them."""
    return "".join(line.removeprefix("  ") for line in item.splitlines(keepends=True))
