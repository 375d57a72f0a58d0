"""An HTTP service that takes CloudEvents and other requests, prints them and shows the last of them.

    python3 events.py <port>

POST or PUT to any path is taken and answered with 204: one with the header `ce-specversion` is a CloudEvent in binary mode
(CloudEvents HTTP binding 1.0, section 3.1) and is refused with 400 if it lacks what every event has. GET /events answers
with JSON: `count`, and `events`, the last 1000, oldest first. For a look at what Envoy sends; it keeps nothing.
"""

import collections
import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What every event has, beside specversion (CloudEvents 1.0, section 3.1).
REQUIRED = ("ce-id", "ce-source", "ce-type")
# The largest content of a request, in bytes.
MAX_CONTENT = 1 << 20


class Events:
    """What came so far."""

    def __init__(self):
        self._lock = threading.Lock()
        self._last = collections.deque(maxlen=1000)
        self._count = 0

    def add(self, event):
        with self._lock:
            self._count += 1
            self._last.append(event)

    def shown(self):
        with self._lock:
            return {"count": self._count, "events": list(self._last)}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A peer that says nothing for so long is gone, in seconds.
    timeout = 60

    def do_GET(self):
        if self.path != "/events":
            self._answer(404)
            return
        self._answer(200, json.dumps(self.server.events.shown(), indent=1).encode() + b"\n")

    def do_POST(self):
        content = self._content()
        if content is None:
            self.close_connection = True
            self._answer(413)
            return
        attributes = {
            name.lower().removeprefix("ce-"): value
            for name, value in self.headers.items()
            if name.lower().startswith("ce-")
        }
        if "specversion" in attributes:
            missing = [name for name in REQUIRED if name not in self.headers]
            if missing or attributes["specversion"] != "1.0":
                self._answer(400, f"not a CloudEvent 1.0: {missing or attributes}\n".encode())
                return
        event = {
            "method": self.command,
            "path": self.path,
            "content_type": self.headers.get("content-type", ""),
            "cloudevent": attributes,
            "data": content.decode(errors="replace"),
        }
        self.server.events.add(event)
        print(json.dumps(event))
        self._answer(204)

    do_PUT = do_POST

    def _content(self):
        """The request's content; None if it is too much."""
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            length = int(self.headers.get("content-length", 0))
            return self.rfile.read(length) if length <= MAX_CONTENT else None
        content = b""
        # A chunk's size is on a line of its own, in hexadecimal digits (RFC 9112, section 7.1).
        while size := int(self.rfile.readline(32).split(b";")[0], 16):
            if len(content) + size > MAX_CONTENT:
                return None
            content += self.rfile.read(size)
            self.rfile.readline(3)
        while self.rfile.readline(8192).strip():
            pass
        return content

    def _answer(self, status, content=b""):
        self.send_response(status)
        if content:
            self.send_header("content-type", "application/json" if status == 200 else "text/plain")
        if status != 204:
            self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Events are what is worth a line."""


def main():
    server = ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    server.events = Events()
    # The first process of a container gets no signal that it has not asked for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server.serve_forever()


if __name__ == "__main__":
    main()
