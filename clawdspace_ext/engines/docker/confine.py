"""Runs in the space, before the agent: takes dangerous system calls away from everything there, for good.

Docker's own filter stays in force and depends on the engine's age; this one comes on top and is the same everywhere.
Standard library only, Python 3.8 or newer; the file is copied next to the agent's.
"""

from __future__ import annotations

import _ctypes
import array
import struct

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_INSTRUCTION_SIZE = 8


def confine(program: bytes) -> None:
    """Load a BPF program as a filter that this process and all its children keep.  Raises OSError.

    Without a program, for a machine nobody wrote one for, nothing happens.
    """
    if not program:
        return
    instructions = array.array("B", program)
    address, size = instructions.buffer_info()
    description = struct.pack("@HP", size // _INSTRUCTION_SIZE, address)  # struct sock_fprog
    # The whole of ctypes would cost every space a megabyte.
    prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]  # None means this program
    arguments = (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, description, 0, 0)
    if _ctypes.call_function(prctl, arguments) != 0:
        raise OSError("the kernel takes no filter of system calls")
