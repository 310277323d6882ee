"""The system call filter, run by a small interpreter of its own language."""

from __future__ import annotations

import errno
import struct

import pytest

from clawdspace_ext.engines.seccomp import MACHINES, filter_program

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
I386, ARM = 0x40000003, 0x40000028
CLONE_NEWUSER, CLONE_NEWNET, CLONE_THREAD, SIGCHLD = 0x10000000, 0x40000000, 0x00010000, 17

NUMBERS = {
    "x86_64": {"mount": 165, "setns": 308, "keyctl": 250, "bpf": 321, "perf_event_open": 298, "io_uring_setup": 425}
    | {"clone": 56, "clone3": 435, "unshare": 272, "ioctl": 16, "socket": 41, "read": 0, "execve": 59, "ptrace": 101},
    "aarch64": {"mount": 40, "setns": 268, "keyctl": 219, "bpf": 280, "perf_event_open": 241, "io_uring_setup": 425}
    | {
        "clone": 220,
        "clone3": 435,
        "unshare": 97,
        "ioctl": 29,
        "socket": 198,
        "read": 63,
        "execve": 221,
        "ptrace": 117,
    },
}


def verdict(machine: str, call: str | int, *arguments: int, architecture: int | None = None) -> int:
    """Run the filter over one system call as the kernel would."""
    number = call if isinstance(call, int) else NUMBERS[machine][call]
    arch = ARCHITECTURES[machine] if architecture is None else architecture
    data = struct.pack("<IIQ6Q", number, arch, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    program = list(struct.iter_unpack("=HBBI", filter_program(machine)))
    position, accumulator = 0, 0
    while True:
        code, if_true, if_false, value = program[position]
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x06:
            return value
        else:
            held = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            position += if_true if held else if_false


def fails_with(number: int) -> int:
    return 0x00050000 | number


on_each_machine = pytest.mark.parametrize("machine", sorted(MACHINES))


@on_each_machine
@pytest.mark.parametrize("call", ["mount", "setns", "keyctl", "bpf", "perf_event_open", "io_uring_setup"])
def test_a_dangerous_call_fails(machine: str, call: str) -> None:
    assert verdict(machine, call) == fails_with(errno.EPERM)


@on_each_machine
@pytest.mark.parametrize("call", ["read", "execve", "ptrace", 449, 1000])
def test_what_is_not_known_to_be_dangerous_passes(machine: str, call: str | int) -> None:
    assert verdict(machine, call) == ALLOWED


@on_each_machine
@pytest.mark.parametrize("flags", [CLONE_NEWUSER, CLONE_NEWNET | SIGCHLD])
@pytest.mark.parametrize("call", ["clone", "unshare"])
def test_no_namespace_can_be_made(machine: str, call: str, flags: int) -> None:
    assert verdict(machine, call, flags) == fails_with(errno.EPERM)


@on_each_machine
def test_processes_and_threads_can_be_made(machine: str) -> None:
    assert verdict(machine, "clone", SIGCHLD) == ALLOWED
    assert verdict(machine, "clone", CLONE_THREAD) == ALLOWED
    assert verdict(machine, "clone3") == fails_with(errno.ENOSYS)


@on_each_machine
def test_terminal_input_cannot_be_faked_with_any_upper_half(machine: str) -> None:
    assert verdict(machine, "ioctl", 0, 0x5412) == fails_with(errno.EPERM)
    assert verdict(machine, "ioctl", 0, 0xDEAD_0000_0000 | 0x5412) == fails_with(errno.EPERM)
    assert verdict(machine, "ioctl", 0, 0x5413) == ALLOWED


@on_each_machine
def test_only_ordinary_socket_families_pass(machine: str) -> None:
    allowed = {family for family in range(64) if verdict(machine, "socket", family, 1) == ALLOWED}
    assert allowed == {1, 2, 10, 16}
    assert verdict(machine, "socket", 40, 1) == fails_with(errno.EAFNOSUPPORT)


@on_each_machine
@pytest.mark.parametrize("architecture", [I386, ARM])
def test_calls_by_the_door_of_another_architecture_are_fatal(machine: str, architecture: int) -> None:
    assert verdict(machine, "read", architecture=architecture) == KILLED


def test_the_second_abi_of_x86_64_is_not_there() -> None:
    assert verdict("x86_64", 0x4000_0000 + NUMBERS["x86_64"]["read"]) == fails_with(errno.ENOSYS)
