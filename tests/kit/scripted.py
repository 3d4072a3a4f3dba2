"""An HTTP server that answers by script, for what asks servers of any kind."""

from collections import deque
from contextlib import asynccontextmanager

from openmeter_collector.component.env import ListenOptions
from openmeter_collector.server.listener import listen


class Script:
    """A server: answers in order, the last one for ever; remembers what it was asked."""

    def __init__(self, *answers):
        self.answers = deque(answers or [(204, {}, b"")])
        self.requests = []

    async def __call__(self, scope, receive, send):
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.requests.append((scope["method"], scope["path"], headers, body))
        status, extra, text = self.answers[0]
        if len(self.answers) > 1:
            self.answers.popleft()
        pairs = [(name.encode(), value.encode()) for name, value in extra.items()]
        pairs.append((b"content-length", str(len(text)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": text})

    @property
    def bodies(self):
        return [body for _, _, _, body in self.requests]


@asynccontextmanager
async def serving(*answers):
    """A script on a port of its own; `url` leads to it."""
    script = Script(*answers)
    async with listen(script, ListenOptions("127.0.0.1:0")) as listener:
        script.url = f"http://{listener.address}"
        yield script
