"""Where the daemon comes in: a listening unix socket, and who may use it."""

from __future__ import annotations

import array
import os
import socket
import struct

from .loop import Loop

MYPY = False
if MYPY:
    from typing import Callable

_CREDENTIALS = struct.Struct("3i")


def listen_inherited(loop: Loop, fd: int, on_transport: Callable[[int, int, int], None]) -> None:
    """Serve on a listening socket made outside the space, whose path nobody inside can reach.

    ``on_transport(read_fd, write_fd, guard)`` is called for each connection.
    """
    os.set_inheritable(fd, False)
    server = socket.socket(fileno=fd)

    def accept() -> None:
        connection, _ = server.accept()
        own = connection.detach()
        on_transport(own, own, -1)

    loop.read(server.fileno(), accept)


def listen_abstract(loop: Loop, name: str, peer_uid: int, on_transport: Callable[[int, int, int], None]) -> None:
    """Serve on an abstract socket, where connectors hand over their stdin and stdout.

    The kernel says who connects: only ``peer_uid`` is let in, which no code of the space can become.  The name belongs
    to the agent as long as it lives, so nobody can stand in its place.
    """
    server = socket.socket(socket.AF_UNIX)
    server.bind("\0" + name)
    server.listen(16)

    def accept() -> None:
        connection, _ = server.accept()
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(credentials)[1] != peer_uid:
            connection.close()
            return
        loop.read(connection.fileno(), lambda: _handed_over(loop, connection, on_transport))

    loop.read(server.fileno(), accept)


def _handed_over(loop: Loop, connection: socket.socket, on_transport: Callable[[int, int, int], None]) -> None:
    loop.forget(connection.fileno())
    fds = array.array("i")
    _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(2 * fds.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if len(fds) == 2:
        for fd in fds:
            os.set_inheritable(fd, False)
        on_transport(fds[0], fds[1], connection.detach())
        return
    for fd in fds:
        os.close(fd)
    connection.close()
