"""Finds where JSON values end in bytes that come piece by piece, without making objects of them."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from openmeter_collector.api import Message, Metadata, ProcessingError

_TOKENS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}"]', re.DOTALL)
"""Whole strings, and what opens and closes. A lone quote begins a string that is not whole yet."""
_OPENS: Final = b"{["
_CLOSES: Final = b"}]"
_IN_STRING: Final = re.compile(rb'["\\]')
_WORD_END: Final = re.compile(rb"[ \t\r\n,\]}\[{\"]")
_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_valid: Final = msgspec.json.Decoder(msgspec.Raw).decode


class Cutter:
    """One value that is being read.

    `held` begins where the value does. Every byte is looked at once, however small the pieces are.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._at = 0
        self._depth = 0
        self._in_string = False
        self._kind = b""

    @property
    def under_way(self) -> bool:
        """A value has begun."""
        return bool(self._kind)

    def end_of_value(self, held: bytearray, *, last: bool) -> int:
        """Where the value at the beginning of `held` ends; -1 when it is not whole yet.

        Args:
            last: no more bytes will come, so that a bare word ends here.
        """
        if not self._kind:
            self._kind = bytes(held[:1])
        end = self._composite(held) if self._kind in b'{["' else self._word(held, last=last)
        if end >= 0:
            self._start()
        return end

    def _word(self, held: bytearray, *, last: bool) -> int:
        found = _WORD_END.search(held, self._at)
        if found is not None:
            return found.start() or 1  # what cannot begin a value is a value that is none
        self._at = len(held)
        return len(held) if last else -1

    def _composite(self, held: bytearray) -> int:
        while True:
            if self._in_string:
                if not self._string_closes(held):
                    return -1
                if not self._depth:
                    return self._at
            for token in _TOKENS.finditer(held, self._at):
                self._at = token.end()
                mark = held[token.start()]
                if mark in _OPENS:
                    self._depth += 1
                elif mark in _CLOSES:
                    self._depth -= 1
                elif self._at == token.start() + 1:
                    self._in_string = True
                    break
                if not self._depth:
                    return self._at
            else:
                self._at = len(held)
                return -1

    def _string_closes(self, held: bytearray) -> bool:
        """Go on inside a string; whether its end was found."""
        while (found := _IN_STRING.search(held, self._at)) is not None:
            if found.group() == b'"':
                self._in_string, self._at = False, found.end()
                return True
            if found.end() == len(held):
                self._at = found.start()
                return False
            self._at = found.end() + 1
        self._at = len(held)
        return False


def past_space(held: bytearray) -> int:
    """How many bytes of white space `held` begins with."""
    found = _SPACE.match(held)
    return found.end() if found else 0


def is_composite(text: bytes) -> bool:
    """Whether a text is one whole object or array."""
    if text[0] not in _OPENS:
        return False
    try:
        _valid(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def message_of(document: bytes, metadata: Metadata, scanner: str) -> Message:
    """The message of a document; flagged when it is none, so that its neighbours are not lost."""
    message = Message(document, metadata)
    try:
        _valid(document)
    except (msgspec.DecodeError, RecursionError) as error:
        return message.with_error(ProcessingError(f"not a JSON document: {error}", scanner))
    return message
