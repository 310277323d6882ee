"""What keeps code in the space from reading or hijacking the agent, with which it shares a user id."""

from __future__ import annotations

_PR_SET_DUMPABLE = 4


def shield() -> None:
    """Make this process unreadable to others of its user: no ptrace, /proc/PID/{mem,fd,environ} or pidfd_getfd.

    Raises OSError when the kernel refuses; the agent must not run then.
    """
    if _prctl(_PR_SET_DUMPABLE, 0) != 0:
        raise OSError("prctl(PR_SET_DUMPABLE) failed")


def _prctl(option: int, value: int) -> int:
    # The full ctypes costs each space a megabyte and 10 ms of start; its core is enough for one call.
    try:
        import _ctypes

        handle = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # None is the program itself
        return int(_ctypes.call_function(_ctypes.dlsym(handle, "prctl"), (option, value, 0, 0, 0)))
    except (ImportError, AttributeError):
        import ctypes

        return int(ctypes.CDLL(None).prctl(option, value, 0, 0, 0))
