"""The listener as hostile, broken and merely unusual clients meet it. Raw sockets, real answers."""

import threading
import time

import pytest
from wire import Echo, connected, read_answers, read_to_end

from openmeter_collector.component.env import ShortWay

HEAD = b"POST /x HTTP/1.1\r\nHost: h\r\n"
CLOSE = b"Connection: close\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n", id="content-length and transfer-encoding"),
        pytest.param(HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", id="two content-lengths"),
        pytest.param(HEAD + b"Content-Length: 3, 4\r\n\r\nabcd", id="a list of content-lengths"),
        pytest.param(HEAD + b"Content-Length: -1\r\n\r\n", id="negative content-length"),
        pytest.param(HEAD + b"Content-Length: +3\r\n\r\nabc", id="signed content-length"),
        pytest.param(HEAD + b"Content-Length: 0x3\r\n\r\nabc", id="hexadecimal content-length"),
        pytest.param(HEAD + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n", id="enormous content-length"),
        pytest.param(HEAD + b"Transfer-Encoding: gzip\r\n\r\nabc", id="unknown transfer-encoding"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", id="chunked is not last"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", id="bad chunk size"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 20 + b"\r\n", id="enormous chunk"),
        pytest.param(b"POST /x HTTP/1.1\nHost: h\n\n", id="lines end with LF only"),
        pytest.param(b"POST /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n", id="no host"),
        pytest.param(b"POST /x HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n", id="two hosts"),
        pytest.param(HEAD + b"X: a\r\n  folded\r\nContent-Length: 0\r\n\r\n", id="folded header"),
        pytest.param(HEAD + b"X : a\r\nContent-Length: 0\r\n\r\n", id="space before the colon"),
        pytest.param(HEAD + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n", id="zero byte in a header"),
        pytest.param(b"POST /x HTTP/1.1\r\nHost h\r\n\r\n", id="header without colon"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2 preface"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS on a plain port"),
        pytest.param(b"nonsense\r\n\r\n", id="nonsense"),
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused_and_the_line_closed(serve, talk, request_):
    app = Echo()
    answer = talk(serve(app), request_)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"application/problem+json" in answer
    assert b"connection: close" in answer.lower()
    assert not any(scope["path"] == "/smuggled" for scope in app.scopes)


def test_http_1_0_needs_no_host(serve, talk):
    assert talk(serve(), b"GET /x HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "shape", ["one long", "many short", "long path", "unfinished", "no newline"]
)
def test_a_head_that_is_too_large_is_refused_without_being_kept(serve, talk, shape):
    request = {
        "one long": HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        "many short": HEAD + b"".join(b"X%d: a\r\n" % n for n in range(10_000)) + b"\r\n",
        "long path": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        "unfinished": HEAD + b"X: " + b"a" * 1_000_000,
        "no newline": b"G" * 1_000_000,
    }[shape]
    answer = talk(serve(max_header_bytes=32_768), request)
    expected = (b"HTTP/1.1 431 ", b"HTTP/1.1 400 ") if shape == "no newline" else b"HTTP/1.1 431 "
    assert answer.startswith(expected), answer


def test_a_large_body_followed_by_a_part_of_the_next_head_is_no_large_head(serve):
    server = serve(max_header_bytes=4096)
    with connected(server) as line:
        body = b"x" * 60_000
        line.sendall(
            HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body + b"GET /next HTTP/1.1\r\n"
        )
        assert read_answers(line, 1) == [(200, b"/x 60000")]
        line.sendall(b"Host: h\r\n\r\n")
        assert read_answers(line, 1) == [(200, b"/next 0")]


def test_trailers_are_bounded_and_do_not_become_headers(serve, talk):
    app = Echo()
    server = serve(app, max_header_bytes=4096)
    chunked = HEAD + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
    talk(server, chunked + b"Authorization: Bearer smuggled\r\n\r\n")
    assert not any(name == b"authorization" for name, _ in app.scopes[0]["headers"])
    many = b"".join(b"X%d: %s\r\n" % (n, b"a" * 100) for n in range(1000))
    answer = talk(server, chunked + many + b"\r\n")
    assert b"HTTP/1.1 200" not in answer


def drip(line, data, seconds):
    """A byte now and then, until the other side has had enough."""
    end = time.monotonic() + seconds
    for at in range(len(data)):
        try:
            line.sendall(data[at : at + 1])
        except OSError:
            return True
        line.settimeout(0.05)
        try:
            if not line.recv(1024):
                return True
        except TimeoutError:
            pass
        except OSError:
            return True
        if time.monotonic() > end:
            return False
    return False


def test_a_head_that_drips_is_cut(serve):
    with connected(serve(header_timeout=0.3, idle_timeout=60)) as line:
        assert drip(line, b"GET /" + b"a" * 1000, 5)


def test_a_body_that_drips_is_cut(serve):
    with connected(serve(body_timeout=0.3, idle_timeout=60)) as line:
        line.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        assert drip(line, b"a" * 1000, 5)


@pytest.mark.parametrize("after_a_request", [False, True])
def test_a_silent_line_is_closed_without_a_word(serve, after_a_request):
    with connected(serve(idle_timeout=0.3)) as line:
        if after_a_request:
            line.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
            assert read_answers(line, 1) == [(200, b"/x 0")]
        assert read_to_end(line) == b""


def test_one_who_sends_requests_and_never_reads_is_cut(serve):
    """Its answers fill the line; without a bound it would hold its connection for ever."""

    async def talkative(scope, receive, send):
        body = b"x" * 4_000_000
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    with connected(serve(talkative, body_timeout=0.5, idle_timeout=0.5)) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 5)
        end = time.monotonic() + 10
        cut = False
        while not cut and time.monotonic() < end:
            time.sleep(0.05)
            try:
                line.sendall(b"G")
            except OSError:
                cut = True
        assert cut


def test_more_connections_than_allowed_are_answered_503_and_closed(serve, talk):
    server = serve(max_connections=2)
    with connected(server) as first, connected(server) as second:
        for line in (first, second):
            line.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
            assert read_answers(line, 1) == [(200, b"/x 0")]
        answer = talk(server, b"")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in answer
    answer = b""
    end = time.monotonic() + 10
    while not answer.startswith(b"HTTP/1.1 200 ") and time.monotonic() < end:
        answer = talk(server, HEAD + CLOSE + b"Content-Length: 0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order(serve):
    with connected(serve()) as line:
        line.sendall(
            b"".join(
                b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s" % (n, n, b"x" * n)
                for n in range(50)
            )
        )
        assert read_answers(line, 50) == [(200, b"/%d %d" % (n, n)) for n in range(50)]


def test_a_client_that_expects_100_continue_gets_it(serve):
    with connected(serve()) as line:
        line.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert read_answers(line, 1) == [(100, b"")]
        line.sendall(b"abc")
        assert read_answers(line, 1) == [(200, b"/x 3")]


def test_a_chunked_body_arrives_whole(serve):
    app = Echo()
    with connected(serve(app)) as line:
        line.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for part in (b"3;name=value\r\nabc\r\n", b"10\r\n" + b"x" * 16, b"\r\n0\r\n\r\n"):
            line.sendall(part)
        assert read_answers(line, 1) == [(200, b"/x 19")]
    assert app.bodies == [b"abc" + b"x" * 16]


@pytest.mark.parametrize("closing", [False, True])
def test_an_answer_before_the_body_has_come_reaches_a_client_that_is_still_sending(serve, closing):
    """Closing at once would reset the line, and the client would see that instead of the answer."""
    app = Echo()
    app.read_body = False
    app.headers = [(b"connection", b"close")] if closing else []
    with connected(serve(app)) as line:
        body = b"x" * 3_000_000
        line.sendall(HEAD + b"Content-Length: 3000000\r\n\r\n")
        try:
            line.sendall(body)
        except OSError:
            pytest.fail("the line was reset while the body was being sent")
        answer = read_to_end(line)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"<reset>" not in answer


def test_after_an_early_answer_nothing_of_the_body_is_read_as_a_request(serve, talk):
    app = Echo()
    app.read_body = False
    body = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n" * 100
    talk(serve(app), HEAD + b"Content-Length: 9000000\r\n\r\n" + body)
    assert [scope["path"] for scope in app.scopes] == ["/x"]


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_an_offer_to_upgrade_is_ignored(serve, protocol):
    """As RFC 9110 7.8 allows; `curl --http2` offers it with every request."""
    app = Echo()
    with connected(serve(app)) as line:
        line.sendall(
            HEAD
            + b"Connection: Upgrade\r\nUpgrade: "
            + protocol
            + b"\r\nContent-Length: 3\r\n\r\nabc"
        )
        answer = read_to_end(line)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert app.bodies == [b"abc"]


def test_a_stop_finishes_what_is_under_way_and_takes_nothing_more(serve):
    app = Echo()
    app.hold = True
    server = serve(app)
    with connected(server) as busy, connected(server) as idle:
        busy.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
        while not app.bodies:
            time.sleep(0.005)
        server.stop()
        assert read_to_end(idle) == b""
        with pytest.raises(OSError):  # noqa: PT012
            while True:
                with connected(server):
                    time.sleep(0.01)
        server.call(app.hold.set)
        answer = read_to_end(busy)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower()
    assert server.ended.wait(5)


def test_many_slow_bodies_do_not_hold_what_was_not_asked_for(serve):
    """The listener itself keeps no more of a body than the application has asked for."""
    app = Echo()
    app.hold = True
    app.read_body = False
    server = serve(app)
    with connected(server) as line:
        line.sendall(HEAD + b"Content-Length: 50000000\r\n\r\n")
        line.settimeout(1.0)
        sent = 0
        try:
            while sent < 50_000_000:
                sent += line.send(b"x" * 100_000)
        except TimeoutError:
            pass
        assert sent < 20_000_000
        server.call(app.hold.set)


# ---- the short way ----------------------------------------------------------------------------


class Short:
    """Takes what comes the short way; answers when told to."""

    def __init__(self):
        self.taken, self.responds, self.takes, self.at_once = [], [], True, True

    def take(self, path, headers, body, client, respond):
        if not self.takes:
            return False
        self.taken.append((path, dict(headers), body))
        if self.at_once:
            respond(b"HTTP/1.1 201 Short\r\ncontent-length: 5\r\n", b"short")
        else:
            self.responds.append(respond)
        return True

    def way(self):
        return ShortWay(frozenset([b"/x"]), 1000, self.take)


def plain(body=b"abc", path=b"/x"):
    return b"POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s" % (path, len(body), body)


SHORTLY = (201, b"short")


def test_a_small_whole_request_goes_the_short_way_and_the_line_stays_open(serve):
    app, short = Echo(), Short()
    with connected(serve(app, short_way=short.way())) as line:
        for _ in range(3):
            line.sendall(plain())
            assert read_answers(line, 1) == [SHORTLY]
    assert [body for _, _, body in short.taken] == [b"abc"] * 3
    assert short.taken[0][1][b"host"] == b"h"
    assert app.scopes == []


def test_answers_of_the_short_way_have_a_date(serve):
    with connected(serve(short_way=Short().way())) as line:
        data = b""
        while b"date: " not in data:  # the first is made a moment after the start
            line.sendall(plain())
            data = line.recv(65536)
    assert data.startswith(b"HTTP/1.1 201 Short\r\n")


def test_a_body_in_pieces_goes_the_short_way_whole(serve):
    short = Short()
    with connected(serve(short_way=short.way())) as line:
        for byte in plain(b"abcdef"):
            line.sendall(bytes([byte]))
        assert read_answers(line, 1) == [SHORTLY]
    assert short.taken[0][2] == b"abcdef"


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", id="chunked"),
        pytest.param(HEAD + b"Content-Length: 0\r\n\r\n", id="empty"),
        pytest.param(HEAD + b"\r\n", id="no length"),
        pytest.param(plain(b"x" * 1001), id="too large"),
        pytest.param(plain(path=b"/y"), id="another path"),
        pytest.param(plain(path=b"/x?a=b"), id="a query"),
        pytest.param(plain().replace(b"POST", b"PUT"), id="another method"),
        pytest.param(plain().replace(b"Host: h", b"Host: h\r\nConnection: close"), id="the last one"),
        pytest.param(plain().replace(b"HTTP/1.1", b"HTTP/1.0"), id="HTTP/1.0"),
        pytest.param(HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc", id="an upgrade"),
    ],
)  # fmt: skip
def test_what_is_not_plain_goes_to_the_application(serve, request_):
    app, short = Echo(), Short()
    with connected(serve(app, short_way=short.way())) as line:
        line.sendall(request_)
        assert read_answers(line, 1)[0][0] == 200
    assert short.taken == []
    assert len(app.bodies) == 1


def test_expect_100_continue_goes_to_the_application(serve):
    short = Short()
    with connected(serve(short_way=short.way())) as line:
        line.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert read_answers(line, 1) == [(100, b"")]
        line.sendall(b"abc")
        assert read_answers(line, 1) == [(200, b"/x 3")]
    assert short.taken == []


def test_what_the_short_way_does_not_take_reaches_the_application_as_it_came(serve):
    app, short = Echo(), Short()
    short.takes = False
    with connected(serve(app, short_way=short.way())) as line:
        line.sendall(plain(b"abc") + plain(b"defg"))
        assert read_answers(line, 2) == [(200, b"/x 3"), (200, b"/x 4")]
    assert app.bodies == [b"abc", b"defg"]
    assert (b"host", b"h") in app.scopes[0]["headers"]
    assert app.scopes[0]["method"] == "POST"


def test_answers_keep_their_order_when_ways_mix(serve):
    """Of requests sent at once the first goes the short way; its answer comes first, when it comes."""
    app, short = Echo(), Short()
    short.at_once = False
    server = serve(app, short_way=short.way())
    with connected(server) as line:
        line.sendall(plain() + plain(b"defg") + plain(path=b"/y"))
        while not short.responds:
            time.sleep(0.005)
        line.settimeout(0.2)
        with pytest.raises(TimeoutError):
            line.recv(1)
        line.settimeout(10)
        server.call(lambda: short.responds[0](b"HTTP/1.1 201 S\r\ncontent-length: 5\r\n", b"short"))
        assert read_answers(line, 3) == [SHORTLY, (200, b"/x 4"), (200, b"/y 3")]
        short.at_once = True
        line.sendall(plain())
        assert read_answers(line, 1) == [SHORTLY]


def test_only_the_first_answer_counts(serve):
    short = Short()
    short.at_once = False
    server = serve(short_way=short.way())
    with connected(server) as line:
        line.sendall(plain())
        while not short.responds:
            time.sleep(0.005)
        for number in (1, 2):
            head = b"HTTP/1.1 20%d S\r\ncontent-length: 0\r\n" % number
            server.call(lambda head=head: short.responds[0](head))
        assert read_answers(line, 1) == [(201, b"")]
        short.at_once = True
        line.sendall(plain())
        assert read_answers(line, 1) == [SHORTLY]


def test_a_client_that_has_gone_costs_nothing(serve):
    short = Short()
    short.at_once = False
    server = serve(short_way=short.way())
    with connected(server) as line:
        line.sendall(plain())
        while not short.responds:
            time.sleep(0.005)
    ended = threading.Event()
    time.sleep(
        0.05
    )  # for the end of the line to be seen; without it the answer is written, and lost
    server.call(lambda: (short.responds[0](b"HTTP/1.1 201 S\r\n"), ended.set()))
    assert ended.wait(5)
    with connected(server) as line:
        short.at_once = True
        line.sendall(plain())
        assert read_answers(line, 1) == [SHORTLY]


def test_garbage_behind_a_request_on_the_short_way_is_refused_after_its_answer(serve):
    short = Short()
    short.at_once = False
    server = serve(short_way=short.way())
    with connected(server) as line:
        line.sendall(plain() + b"nonsense\r\n\r\n")
        while not short.responds:
            time.sleep(0.005)
        server.call(lambda: short.responds[0](b"HTTP/1.1 201 S\r\ncontent-length: 5\r\n", b"short"))
        answer = read_to_end(line)
    assert answer.startswith(b"HTTP/1.1 201 S\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_stop_waits_for_an_answer_of_the_short_way(serve):
    short = Short()
    short.at_once = False
    server = serve(short_way=short.way())
    with connected(server) as line:
        line.sendall(plain())
        while not short.responds:
            time.sleep(0.005)
        server.stop()
        assert not server.ended.wait(0.2)
        server.call(lambda: short.responds[0](b"HTTP/1.1 201 S\r\ncontent-length: 0\r\n"))
        answer = read_to_end(line)
    assert answer.startswith(b"HTTP/1.1 201 S\r\n")
    assert b"connection: close\r\n" in answer
    assert server.ended.wait(5)


def test_an_unfinished_body_on_the_short_way_is_cut_in_time(serve):
    short = Short()
    with connected(serve(short_way=short.way(), body_timeout=0.3)) as line:
        line.sendall(HEAD + b"Content-Length: 3\r\n\r\na")
        assert read_to_end(line) == b""
    assert short.taken == []
