"""Text in double quotes, with what cannot be printed escaped."""

from __future__ import annotations

from typing import Final

_NAMED: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}


def quote(text: str, mark: str = '"', *, ascii_only: bool = False) -> str:
    """Quote a text so that `unescape` reads it back."""
    parts = [mark]
    for char in text:
        code = ord(char)
        if char == mark:
            parts.append("\\" + mark)
        elif char in _NAMED:
            parts.append(_NAMED[char])
        elif 0xDC80 <= code <= 0xDCFF:
            parts.append(f"\\x{code - 0xDC00:02x}")
        elif code < 0x20 or code == 0x7F:
            parts.append(f"\\x{code:02x}")
        elif (code < 0x7F or not ascii_only) and (char == " " or _printable(char)):
            parts.append(char)
        else:
            parts.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    parts.append(mark)
    return "".join(parts)


def _printable(char: str) -> bool:
    return char.isprintable() and not char.isspace()
