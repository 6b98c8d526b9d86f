"""A server on this machine that runs in a thread while a test needs it."""

from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer


class LocalServer:
    """What stands in for the Hub; handlers find it as `self.server.hub`."""

    def __init__(self, handler):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.hub = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
