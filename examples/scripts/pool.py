"""A head and its workers, as Ray and Dask have them: adds up squares, each part on whatever worker is free.

`head FILE COUNT` listens, writes where into FILE, and waits for COUNT workers; `worker FILE` waits for that file and
connects. The file is the rendezvous, so that no host name has to be known.
"""

import json
import os
import pathlib
import socket
import socketserver
import sys
import threading
import time

PARTS = 40
PART = 10_000


class Head(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, count: int) -> None:
        super().__init__(("", 0), Conversation)
        self.missing = threading.Semaphore(0)
        self.count = count
        self.parts = iter(range(PARTS))
        self.lock = threading.Lock()
        self.total = 0
        self.done: dict[str, int] = {}


class Conversation(socketserver.StreamRequestHandler):
    """One worker: asks for parts until there is none."""

    server: Head

    def handle(self) -> None:
        name = self.rfile.readline().decode().strip()
        for part in iter(self.next_part, None):
            self.wfile.write(f"{part}\n".encode())
            result = int(self.rfile.readline())
            with self.server.lock:
                self.server.total += result
                self.server.done[name] = self.server.done.get(name, 0) + 1
        self.server.missing.release()

    def next_part(self) -> int | None:
        with self.server.lock:
            return next(self.server.parts, None)


def address_of(node: str) -> str:
    """Where the others find this node. What its host calls itself may mean another address elsewhere."""
    try:
        return socket.gethostbyname(node)
    except OSError:
        return socket.gethostbyname(socket.gethostname())


def head(file: pathlib.Path, count: int) -> None:
    with Head(count) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = address_of(os.environ["TORC_NODELIST"].split(",")[0])
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps([host, server.server_address[1]]))
        fresh.rename(file)
        for _ in range(count):
            server.missing.acquire()
        server.shutdown()
        expected = sum(number * number for number in range(PARTS * PART))
        assert server.total == expected, "a part is missing"
        print(f"{server.total} from {len(server.done)} workers: {sorted(server.done)}")


def worker(file: pathlib.Path, name: str) -> None:
    while not file.exists():
        time.sleep(0.05)
    with socket.create_connection(json.loads(file.read_text())) as connection:
        stream = connection.makefile("rw")
        print(name, file=stream, flush=True)
        for line in stream:
            first = int(line) * PART
            print(sum(number * number for number in range(first, first + PART)), file=stream, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "head":
        head(pathlib.Path(sys.argv[2]), int(sys.argv[3]))
    else:
        worker(pathlib.Path(sys.argv[2]), sys.argv[3])
