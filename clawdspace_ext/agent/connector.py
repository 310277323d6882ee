"""Hands its stdin and stdout to the agent of its space, and waits until the agent lets go.

Run by the engine as a user that no code of the space can become.  It imports almost nothing: it lives as long as the
link does, in every space.  Usage: connector.py ABSTRACT_SOCKET_NAME
"""

import _socket
import sys
import time

ATTEMPTS = 1000
PAUSE = 0.01


def connect(name):  # type: ignore[no-untyped-def]  # annotations would be evaluated: Python 3.8, no __future__ import
    """Return a socket to the agent, which may still be starting."""
    for _ in range(ATTEMPTS):
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            connection.connect("\0" + name)
            return connection
        except OSError:
            connection.close()
            time.sleep(PAUSE)
    sys.exit("the agent does not listen")


if __name__ == "__main__":
    agent = connect(sys.argv[1])  # type: ignore[no-untyped-call]  # see above
    fds = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1))
    agent.sendmsg([b"F"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
    agent.recv(1)
