"""`top` and `tail` against a service that runs."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from openmeter_collector.cli.admin_client import PASSWORD
from openmeter_collector.cli.gaps import gaps
from openmeter_collector.cli.tail import tail
from openmeter_collector.cli.top import top
from openmeter_collector.errors import ConfigError

STATE = {
    "version": "1.2.3", "uptime": 7300.0, "ready": False, "pipelines": {"": {
        "problems": ["buffer: disk \x1b[31mfull"],
        "stages": [
            {"kind": "input", "name": "cloudevents", "label": "door", "depth": 0, "total": 12345.0,
             "errors": 0.0, "rate_in": 10.0, "rate_out": 0.0, "p50_ms": 1.0, "p99_ms": 2.5},
        ],
        "backlog": {"events": 5, "bytes": 100, "oldest_age": 3.0, "seconds_to_drained": None,
                    "seconds_to_full": 90000.0, "dead_letters": 2},
        "delivery": {"delivered": 7, "in_flight": 1, "last_failure": 2.0, "last_success": 1.0,
                     "last_error": "401: who are you"},
    }},
}  # fmt: skip
EVENTS = [{"id": "b", "content": "b\x1b]0;title"}, {"id": "a", "content": "a"}]


@pytest.fixture
def url():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = 200, b"no json"
            if self.headers.get("Authorization") == "Basic YWRtaW46c2VzYW1l":
                body = json.dumps(STATE if self.path == "/ui/state" else EVENTS).encode()
                Handler.paths.append(self.path)
            elif self.path.startswith("/ui"):
                status = 401
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    Handler.paths = []
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.paths = Handler.paths
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", Handler.paths
    server.shutdown()
    thread.join()
    server.server_close()


def run(command, *arguments, password="sesame"):
    done = CliRunner().invoke(command, arguments, env={PASSWORD: password}, standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.output


def test_a_picture_says_what_an_operator_asks(url):
    text = run(top, "--url", url[0], "--user", "admin", "--once")
    assert "1.2.3  NOT READY  up 2.0 h" in text
    assert "cloudevents door" in text
    assert "12,345" in text
    assert "oldest 3.0 s, drained in -, full in 25.0 h, dead letters 2" in text
    assert "! 401: who are you" in text
    assert "\x1b" not in text


def test_pictures_for_programs_are_json(url):
    assert json.loads(run(top, "--url", url[0], "--user", "admin", "--once", "--json")) == STATE


def test_events_come_oldest_first_and_cannot_play_with_the_terminal(url):
    text = run(tail, "customer 1", "--url", url[0], "--user", "admin")
    assert text == "a\nb?]0;title\n"
    assert url[1] == ["/ui/tail?q=customer+1"]
    lines = run(tail, "--url", url[0], "--user", "admin", "--json").splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a", "b"]


@pytest.mark.parametrize(
    ("more", "text"),
    [((), "asks for a password; give --user"), (("--user", "admin"), "refuses this name")],
)
def test_a_password_that_is_wanted_or_wrong_is_said(url, more, text):
    with pytest.raises(ConfigError, match=text):
        run(top, "--url", url[0], "--once", *more, password="wrong")


def test_gaps_shows_the_same_password(url):
    with pytest.raises(ConfigError, match=PASSWORD):
        run(gaps, "--url", url[0] + "/ui", "--user", "admin", password="wrong")
    with pytest.raises(ConfigError, match="is a collector there"):
        run(gaps, "--url", url[0] + "/ui", "--user", "admin")
