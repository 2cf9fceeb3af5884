"""A bad line on the loopback address: connections that wait, and that end within a question or its answer."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from types import TracebackType
from typing import Self

_DELAY_SECONDS = 0.3


class BadLine:
    """Passes connections on to a port of this machine, and harms some of what goes over them, drawn by a seed.

    Attributes:
        url: its address.
        cut: how many connections it has ended.
    """

    def __init__(self, port: int, seed: int) -> None:
        self.cut = 0
        self._port = port
        self._draw = random.Random(seed)
        self._good = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def mend(self) -> None:
        """Harm nothing from now on."""
        self._good = True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            there = threading.Thread(target=self._copy, args=(client, server), daemon=True)
            there.start()
            self._copy(server, client)
            there.join()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        """Pass bytes on until the source ends or a part is harmed; both ends see the line go down then."""
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                fate = "good" if self._good else self._draw.choices(["good", "slow", "cut"], [7, 2, 1])[0]
                if fate == "slow":
                    time.sleep(_DELAY_SECONDS)
                if fate == "cut":
                    self.cut += 1
                    target.sendall(content[: len(content) // 2])
                    break
                target.sendall(content)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
