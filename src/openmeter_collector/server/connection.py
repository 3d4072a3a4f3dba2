"""One connection of a listener: uvicorn's HTTP protocol, with every limit that a public one needs.

uvicorn parses (httptools, strict) and speaks ASGI; what it leaves open is bounded here: size of the
request head, time for head and body, idle time, number of connections. Deadlines are kept as one
number per connection and looked at by one sweeper, because arming and cancelling a timer per request
costs more than everything else in this file together.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from openmeter_collector.component.env import ListenOptions, ShortWay

_HEAR_OUT: Final = 5.0
_NEVER: Final = float("inf")


class Connection(HttpToolsProtocol):
    """One connection.

    Its input is in a head (`_in_head`), in a body, or no longer listened to (`_deaf`): what comes
    then is read and thrown away, because closing on unread data resets the line, and a client that
    is still sending would see that instead of its answer.
    """

    limits: ListenOptions
    shared: Shared
    cycle: Any
    """uvicorn's, or the `_Short` of a request that goes the short way."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._line = _Line(self)
        self._most_fields = self.limits.max_header_bytes
        self._way = self.limits.short_way
        self._short = _Short()
        self._body = b""
        self._length = b""
        self._plain = True
        self._in_head = True
        self._begun = False
        self._deaf = False
        self._left = 0
        self._fields_bytes = 0
        self._raw_bytes = 0
        self._hosts = 0
        self._unanswered = 0
        self._deadline = self.loop.time() + self.limits.idle_timeout
        self._write_deadline = _NEVER
        if self.scheme == "https":
            self.app_state = {"tls": _tls_facts(transport)}
        if len(self.connections) > self.limits.max_connections:
            self._refuse(503, "too many connections", retry_after=1)

    # ---- what comes in -----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._take_body(data)
            return
        if self._deaf:
            return
        unfinished = self._begun
        self._raw_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._upgrade(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            if not self._deaf:
                self._refuse(400, f"the request cannot be read: {type(error).__name__}")
        else:
            # The parser keeps an unfinished field in memory however long it is, so unfinished
            # heads are counted raw, from the second piece on: the first may hold other things.
            if unfinished and self._begun and self._raw_bytes > self.limits.max_header_bytes:
                self._refuse_head()

    def _upgrade(self, rest: bytes) -> None:
        if self._deaf:
            return
        if not self._should_upgrade():
            self._ignore_upgrade(rest)
        elif self._unanswered:
            self._refuse(400, "an upgrade behind unanswered requests")
        else:
            self._deadline = _NEVER
            self.handle_websocket_upgrade()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """RFC 9110 7.8: an offer to upgrade may be ignored. The parser stops at it, so the body is
        taken by its length, and this request is the last one here.
        """
        headers = dict(self.headers)
        if b"transfer-encoding" in headers or self.parser.get_method() == b"CONNECT":
            self._in_head = False
            self._refuse(400, "upgrades are not served here")
            return
        self._deaf = True
        self.cycle.keep_alive = False
        self._left = int(headers.get(b"content-length", b"0"))
        self._deadline = self.loop.time() + self.limits.body_timeout
        self._take_body(rest)

    def _take_body(self, data: bytes) -> None:
        part = data[: self._left]
        self._left -= len(part)
        if part:
            super().on_body(part)
        if not self._left:
            self._deadline = _NEVER
            super().on_message_complete()

    def on_message_begin(self) -> None:
        # What uvicorn does here, less the scope, which only an application needs.
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._length = b""
        self._plain = True
        self._begun = True
        self._in_head = True
        self._hosts = 0
        self._fields_bytes = 0
        self._raw_bytes = 0
        self._deadline = self.loop.time() + self.limits.header_timeout

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_field(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields_bytes += len(name) + len(value) + 4
        if self._fields_bytes > self._most_fields and not self._deaf:
            self._refuse_head()
        # What stands behind a chunked body is no header: it would speak after it was listened to.
        if not self._in_head or self._deaf:
            return
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"content-length":
            self._length = value
        elif name == b"transfer-encoding":
            self._plain = False
        elif name == b"expect":
            self._plain = False
            self.expect_100_continue = value.lower() == b"100-continue"
        self.headers.append((name, value))

    def _count_field(self, size: int) -> None:
        self._fields_bytes += size
        if self._fields_bytes > self.limits.max_header_bytes and not self._deaf:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        self._begun = False
        if self._deaf:
            return
        if self._hosts > 1 or (not self._hosts and self.parser.get_http_version() == "1.1"):
            self._refuse(400, "there must be one Host header")
            return
        upgrade = self.parser.should_upgrade()
        if upgrade and self._should_upgrade():
            self._hand_to_application()
            return
        self._in_head = False
        self._fields_bytes = 0
        self._deadline = self.loop.time() + self.limits.body_timeout
        self._unanswered += 1
        if self._way is not None and not upgrade and self._fits(self._way):
            self._body = b""
            self._short.begin()
            self.cycle = self._short
        else:
            self._hand_to_application()
            self.cycle.transport = self._line

    def _hand_to_application(self) -> None:
        """What uvicorn does when the head is complete; the scope that belongs to it is made here."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        super().on_headers_complete()

    def _fits(self, way: ShortWay) -> bool:
        parser, cycle = self.parser, self.cycle
        return (
            self.url in way.paths
            and self._plain
            and (cycle is None or cycle.response_complete)
            and parser.get_method() == b"POST"
            and self._length.isdigit()
            and 0 < int(self._length) <= way.max_bytes
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
        )

    def on_body(self, body: bytes) -> None:
        if self._deaf:
            return
        if self.cycle is self._short:
            self._body = self._body + body if self._body else body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._deaf or self.parser.should_upgrade():
            return
        self._in_head = True
        self._deadline = _NEVER
        if self.cycle is not self._short:
            super().on_message_complete()
            return
        assert self._way is not None
        self._short.more_body = False
        body, self._body = self._body, b""
        if self._way.take(self.url, self.headers, body, self.client, self._respond):
            return
        # Not one of the easy ones after all: the application gets it as it came.
        self.cycle = None
        self._hand_to_application()
        self.cycle.transport = self._line
        super().on_body(body)
        super().on_message_complete()

    def _respond(self, head: bytes, body: bytes = b"") -> None:
        """See `component.env.Respond`."""
        short, transport = self._short, self.transport
        if short.response_complete:
            return
        short.response_complete = True
        if not transport.is_closing():
            if short.keep_alive:
                transport.write(b"%s%s\r\n%s" % (head, self.shared.date, body))
            else:
                end = b"connection: close\r\n\r\n"
                transport.write(b"%s%s%s%s" % (head, self.shared.date, end, body))
                transport.close()
        self.on_response_complete()

    # ---- what goes out -----------------------------------------------------------------------

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._unanswered -= 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._deaf or self.cycle.more_body:
            # Refused, or answered before the body was read to its end: nothing good can follow.
            self._say_no_more()
        elif not self._begun:
            self._deadline = self.loop.time() + self.limits.idle_timeout

    def pause_writing(self) -> None:
        """Who does not read its answers is cut like one who does not send its request."""
        super().pause_writing()
        self._write_deadline = self.loop.time() + self.limits.body_timeout

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write_deadline = _NEVER

    def sweep(self, now: float) -> None:
        """Close the connection when its time is over.

        Without a word: the senders' libraries repeat after a closed line, and give up after a 408.
        """
        if now >= self._write_deadline:
            self.transport.abort()
        elif now >= self._deadline:
            self._deadline = _NEVER
            self.transport.close()

    def finish(self) -> None:
        """No more requests; what is under way is answered."""
        if self._deaf and not self._unanswered:
            self.transport.close()
        else:
            self.shutdown()

    def _refuse_head(self) -> None:
        self._refuse(431, f"more than {self.limits.max_header_bytes} bytes of headers")

    def _refuse(self, status: int, detail: str, retry_after: int | None = None) -> None:
        """Answer the request that is being read, and listen to nothing more."""
        self._deaf = True
        in_body = not self._in_head
        if self._unanswered > in_body:
            # Answers to earlier requests are still to come, and this one would be taken for the
            # first of them. They are given, then the line is closed.
            if in_body:
                self.pipeline = type(self.pipeline)(
                    p for p in self.pipeline if p[0] is not self.cycle
                )
                self._unanswered -= 1
            return
        if in_body:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()
                return
        body = b'{"type":"about:blank","title":"%s","status":%d,"detail":"%s"}' % (
            _TITLES[status].encode(),
            status,
            detail.encode(),
        )
        extra = b"retry-after: %d\r\n" % retry_after if retry_after is not None else b""
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/problem+json\r\n%s"
            b"content-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, _TITLES[status].encode(), extra, len(body), body)
        )
        self._say_no_more()

    def _say_no_more(self) -> None:
        """End our side, and hear the client out for a moment."""
        self._deaf = True
        self._unanswered = 0
        self._deadline = self.loop.time() + min(_HEAR_OUT, self.limits.body_timeout)
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()


class _Short:
    """What uvicorn calls a cycle, for a request that went the short way. One for a connection: it
    begins anew only when it is complete.
    """

    __slots__ = (
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
    )

    def __init__(self) -> None:
        self.message_event = _NOBODY_WAITS
        self.response_complete = True
        self.response_started = False
        self.begin()
        self.response_complete = True

    def begin(self) -> None:
        self.response_complete = False
        self.more_body = True
        self.keep_alive = True
        self.disconnected = False


class _NobodyWaits:
    def set(self) -> None:
        """As of an event that nobody waits for."""


_NOBODY_WAITS: Final = _NobodyWaits()


class Shared:
    """What all connections of a listener have in common: the `date` line of their answers."""

    def __init__(self) -> None:
        self.date = b""


class _Line:
    """The transport as an answer under way sees it: closing waits until the body is read."""

    __slots__ = ("_connection", "_write", "is_closing")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def write(self, data: bytes) -> None:
        # Whoever is gone needs no answer; the one under way may not have heard of it yet.
        if not self.is_closing():
            self._write(data)

    def close(self) -> None:
        connection = self._connection
        if connection.cycle.more_body:
            connection._say_no_more()  # noqa: SLF001 - one thing in two classes
        else:
            connection.transport.close()


_TITLES: Final = {
    400: "Bad Request",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def _tls_facts(transport: asyncio.Transport) -> dict[str, str]:
    """What is known about a TLS connection, under the names that pipelines know."""
    tls = transport.get_extra_info("ssl_object")
    if tls is None:
        return {}
    cipher = tls.cipher()
    facts = {"http_server_tls_version": tls.version() or "", "http_server_tls_subject": ""}
    facts["http_server_tls_cipher_suite"] = cipher[0] if cipher else ""
    subject = (tls.getpeercert() or {}).get("subject", ())
    pairs = [f"{name}={value}" for part in subject for name, value in part]
    facts["http_server_tls_subject"] = ",".join(pairs)
    return facts
