"""A command in a space, followed from another process."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .errors import Broken, Unavailable
from .wire import dumps, error_from_json

if TYPE_CHECKING:
    from websocket import WebSocket

_TEXT, _BINARY, _CLOSE = 1, 2, 8

#: Bytes of stdin in one message.
CHUNK = 64 * 1024
#: Seconds that a signal waits for stdin that is being sent.
PATIENCE = 1.0


class RemoteProcess:
    """Follows a command over a websocket, as ``protocols.Process`` does but synchronously.

    ``output`` is read by one thread; everything else may be called from others, and from signal handlers.  The
    ``exit_`` attributes are known when ``output`` has ended; ``lost`` says how much of it (``stdout``, ``stderr``) is
    kept no longer.
    """

    def __init__(self, connection: WebSocket, command: dict[str, Any] | None) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self.exit_code: int | None = None
        self.exit_signal: int | None = None
        self.timed_out = False
        if command is not None:  # else it runs already
            self._tell(command)
        started = self._started()
        self.id: str = started["id"]
        self.lost: dict[str, int] = started.get("lost", {})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def output(self) -> Iterator[tuple[int, bytes]]:
        """Yield (1 for stdout or 2 for stderr, bytes) until the command has ended.

        Raises what went wrong in the space, Unavailable when the daemon went away.
        """
        while self.exit_code is None:
            kind, data = self._receive()
            if kind == _BINARY:
                yield data[0], data[1:]
            else:
                self._told(_message(data))
        self.close()

    def write(self, data: bytes) -> None:
        """Send bytes to its stdin, waiting while it does not read.  Raises Unavailable."""
        for start in range(0, len(data), CHUNK):
            with self._sending:
                self._send(data[start : start + CHUNK], _BINARY)

    def end_stdin(self) -> None:
        """Close its stdin."""
        self._tell({"type": "eof"})

    def signal(self, number: int) -> None:
        """Send a signal to its process group; when stdin is stuck on the way, hang up, which ends it too."""
        if not self._sending.acquire(timeout=PATIENCE):
            self._abandon()
            return
        try:
            self._send(dumps({"type": "signal", "number": number}), _TEXT)
        finally:
            self._sending.release()

    def resize(self, cols: int, rows: int) -> None:
        """Tell its terminal a new size."""
        self._tell({"type": "resize", "cols": cols, "rows": rows})

    def close(self) -> None:
        """Leave.  A command that still runs gets SIGHUP, or runs on if it was started with ``detach``."""
        self._connection.shutdown()  # type: ignore[no-untyped-call]  # the library's types are incomplete

    def _tell(self, message: dict[str, Any]) -> None:
        with self._sending:
            self._send(dumps(message), _TEXT)

    def _send(self, payload: bytes, opcode: int) -> None:
        from websocket import WebSocketException  # noqa: PLC0415  # it is there already

        try:
            self._connection.send(payload, opcode)
        except (OSError, WebSocketException) as error:
            self.close()
            raise Unavailable(f"the daemon went away: {error}") from error

    def _receive(self) -> tuple[int, bytes]:
        from websocket import WebSocketException  # noqa: PLC0415  # it is there already

        try:
            kind, data = self._connection.recv_data()
        except (OSError, WebSocketException) as error:
            self.close()
            raise Unavailable(f"the daemon went away: {error}") from error
        if kind == _CLOSE:
            self.close()
            raise Unavailable("the daemon left", remedy="the command may run on; try again")
        return kind, data

    def _started(self) -> dict[str, Any]:
        kind, data = self._receive()
        message = _message(data) if kind == _TEXT else {}
        if message.get("type") == "error":
            self.close()
            raise error_from_json(0, message)
        return message

    def _told(self, message: dict[str, Any]) -> None:
        if message.get("type") == "error":
            self.close()
            raise error_from_json(0, message)
        self.exit_code = message["exitCode"]
        self.exit_signal = message.get("signal")
        self.timed_out = message.get("timedOut", False)

    def _abandon(self) -> None:
        """Break the connection under whoever is using it."""
        if self._connection.sock is not None:
            try:
                self._connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the daemon was faster


def _message(data: bytes) -> dict[str, Any]:
    message = json.loads(data)
    if not isinstance(message, dict):
        raise Broken("the daemon speaks in a way that this version does not know")
    return message
