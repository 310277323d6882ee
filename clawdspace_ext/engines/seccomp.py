"""The system calls a space may not make, as the BPF program bubblewrap loads.

No capability reaches a space, so most of what is denied would fail anyway; the filter keeps the kernel's most attacked
code out of reach.  It denies what is known to be dangerous and allows the rest, so that programs made for newer
kernels run.
"""

from __future__ import annotations

import errno
import struct
from typing import NamedTuple

_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06

# Offsets in struct seccomp_data.  The kernel looks at the low halves of these arguments only, and so must the filter.
_NUMBER, _ARCHITECTURE, _ARGUMENT_0, _ARGUMENT_1 = 0, 4, 16, 24

_ALLOW, _KILL_PROCESS, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000

_X32_CALLS = 0x40000000  # the other ABI of x86_64 kernels, under numbers of its own
_NAMESPACE_FLAGS = 0x7E020000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing into somebody else's terminal
_SOCKET_FAMILIES = (1, 2, 10, 16)  # unix, IPv4, IPv6, netlink; not vsock, which no namespace confines


class _Call(NamedTuple):
    """The number of a system call on each machine, None where there is none."""

    x86_64: int | None
    aarch64: int | None


_DENIED = {
    "acct": _Call(163, 89),
    "add_key": _Call(248, 217),
    "adjtimex": _Call(159, 171),
    "bpf": _Call(321, 280),
    "clock_adjtime": _Call(305, 266),
    "clock_settime": _Call(227, 112),
    "delete_module": _Call(176, 106),
    "fanotify_init": _Call(300, 262),
    "finit_module": _Call(313, 273),
    "fsconfig": _Call(431, 431),
    "fsmount": _Call(432, 432),
    "fsopen": _Call(430, 430),
    "fspick": _Call(433, 433),
    "init_module": _Call(175, 105),
    "io_uring_enter": _Call(426, 426),
    "io_uring_register": _Call(427, 427),
    "io_uring_setup": _Call(425, 425),
    "ioperm": _Call(173, None),
    "iopl": _Call(172, None),
    "kexec_file_load": _Call(320, 294),
    "kexec_load": _Call(246, 104),
    "keyctl": _Call(250, 219),
    "lookup_dcookie": _Call(212, 18),
    "modify_ldt": _Call(154, None),
    "mount": _Call(165, 40),
    "mount_setattr": _Call(442, 442),
    "move_mount": _Call(429, 429),
    "open_by_handle_at": _Call(304, 265),
    "open_tree": _Call(428, 428),
    "perf_event_open": _Call(298, 241),
    "pivot_root": _Call(155, 41),
    "quotactl": _Call(179, 60),
    "quotactl_fd": _Call(443, 443),
    "reboot": _Call(169, 142),
    "request_key": _Call(249, 218),
    "setns": _Call(308, 268),
    "settimeofday": _Call(164, 170),
    "swapoff": _Call(168, 225),
    "swapon": _Call(167, 224),
    "sysfs": _Call(139, None),
    "syslog": _Call(103, 116),
    "umount2": _Call(166, 39),
    "uselib": _Call(134, None),
    "userfaultfd": _Call(323, 282),
    "ustat": _Call(136, None),
    "vhangup": _Call(153, 58),
}
_CLONE = _Call(56, 220)
_CLONE3 = _Call(435, 435)
_IOCTL = _Call(16, 29)
_SOCKET = _Call(41, 198)
_UNSHARE = _Call(272, 97)

_AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

MACHINES = frozenset(_AUDIT_ARCHITECTURES)


def filter_program(machine: str) -> bytes:
    """Return the filter for one of MACHINES."""
    program = _check_architecture(machine)
    program += _load(_NUMBER)
    if machine == "x86_64":
        program += _jump(_JUMP_AT_LEAST, _X32_CALLS, 0, 1) + _fail(errno.ENOSYS)
    for call in _DENIED.values():
        program += _when_number(machine, call, _fail(errno.EPERM))
    # C libraries fall back to clone, whose flags a filter can see.
    program += _when_number(machine, _CLONE3, _fail(errno.ENOSYS))
    for call in (_CLONE, _UNSHARE):
        refuse = _load(_ARGUMENT_0) + _jump(_JUMP_ANY_BIT, _NAMESPACE_FLAGS, 0, 1) + _fail(errno.EPERM) + _allow()
        program += _when_number(machine, call, refuse)
    program += _when_number(machine, _IOCTL, _load(_ARGUMENT_1) + _only_unlisted(_TERMINAL_INPUT))
    program += _when_number(machine, _SOCKET, _load(_ARGUMENT_0) + _only_listed(_SOCKET_FAMILIES))
    return program + _allow()


def _check_architecture(machine: str) -> bytes:
    """Kill what enters the kernel by another architecture's door: its numbers mean other calls."""
    expected = _AUDIT_ARCHITECTURES[machine]
    return _load(_ARCHITECTURE) + _jump(_JUMP_EQUAL, expected, 1, 0) + _instruction(_RETURN, _KILL_PROCESS)


def _when_number(machine: str, call: _Call, then: bytes) -> bytes:
    number = call.x86_64 if machine == "x86_64" else call.aarch64
    if number is None:
        return b""
    return _jump(_JUMP_EQUAL, number, 0, len(then) // _INSTRUCTION.size) + then


def _only_unlisted(values: tuple[int, ...]) -> bytes:
    return b"".join(_jump(_JUMP_EQUAL, value, 0, 1) + _fail(errno.EPERM) for value in values) + _allow()


def _only_listed(values: tuple[int, ...]) -> bytes:
    return b"".join(_jump(_JUMP_EQUAL, value, 0, 1) + _allow() for value in values) + _fail(errno.EAFNOSUPPORT)


def _load(offset: int) -> bytes:
    return _instruction(_LOAD, offset)


def _jump(kind: int, value: int, if_true: int, if_false: int) -> bytes:
    return _INSTRUCTION.pack(kind, if_true, if_false, value)


def _fail(error: int) -> bytes:
    return _instruction(_RETURN, _FAIL | error)


def _allow() -> bytes:
    return _instruction(_RETURN, _ALLOW)


def _instruction(code: int, value: int) -> bytes:
    return _INSTRUCTION.pack(code, 0, 0, value)
