"""ClickHouse's HTTP interface around the real engine (chdb), for tests; run as a program.

    python chdb_server.py FOLDER    # prints the port it listens on

The engine is ClickHouse itself; the HTTP around it is ours and as small as a client allows: queries by
GET and POST, settings as URL parameters, `X-ClickHouse-Exception-Code` with errors, results streamed.
Sessions, users and the native port are not there.
"""

import contextlib
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from chdb.session import Session

# Parameters of the HTTP interface itself; all others are settings of the query.
KNOWN = {
    "buffer_size", "client_protocol_version", "compress", "database", "default_format",
    "enable_http_compression", "query", "query_id", "session_id", "wait_end_of_query",
}  # fmt: skip
FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*(?:SETTINGS[^;]*)?;?\s*$", re.IGNORECASE)
ROWS = re.compile(rb"\s*(SELECT|WITH|SHOW|DESCRIBE|DESC|EXPLAIN|EXISTS)\b", re.IGNORECASE)
ENGINE = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    session: Session

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def log_message(self, *_):
        pass

    def answer(self):
        if self.path.startswith("/ping"):
            return self.send(200, b"Ok.\n")
        given = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        body = self.read_body()
        query = given.get("query", "").encode()
        query = query + b"\n" + body if query and body else query or body
        found = FORMAT.search(query)
        form = found[1].decode() if found else given.get("default_format", "TabSeparated")
        if found and ROWS.match(query):
            query = query[: found.start()]
        settings = {k: v for k, v in given.items() if k not in KNOWN and not k.startswith("param_")}
        with ENGINE:
            try:
                self.session.query(f"USE {given.get('database') or 'default'}")
                for name, value in settings.items():
                    if re.fullmatch(r"\w+", name):
                        quoted = value.replace("'", "\\'")
                        self.session.query(f"SET {name}='{quoted}'")
                if ROWS.match(query):
                    # The engine writes a head with every part of a streamed result, a server with the first.
                    head = form.count("With") and (2 if form.endswith("AndTypes") else 1)
                    self.stream(self.session.send_query(query.decode(), form), head)
                else:
                    result = self.session.query(query.decode("utf-8", "surrogateescape"), form)
                    self.send(200, result.bytes() or b"")
            except Exception as error:  # noqa: BLE001 - whatever the engine says is for the client
                self.fail(str(error))
            finally:
                for name in settings:
                    with contextlib.suppress(Exception):
                        self.session.query(f"SET {name}=DEFAULT")

    def read_body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().strip() or b"0", 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def stream(self, result, head):
        first, skip = result.fetch(), 0
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("X-ClickHouse-Timezone", "UTC")
        self.end_headers()
        while first is not None:
            data = first.bytes().split(b"\n", skip)[-1]
            skip = head
            if data:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            first = result.fetch()
        self.wfile.write(b"0\r\n\r\n")

    def fail(self, text):
        code = re.search(r"Code: (\d+)", text)
        self.send(500, text.encode(), {"X-ClickHouse-Exception-Code": code[1] if code else "1001"})

    def send(self, status, body, headers=None):
        self.send_response(status)
        for name, value in {"X-ClickHouse-Timezone": "UTC", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    Handler.session = Session(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
