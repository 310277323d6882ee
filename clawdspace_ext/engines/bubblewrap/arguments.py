"""What bubblewrap is told: namespaces, mounts, environment and command of one space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import environment
from .environment import Python

AGENT_INSIDE = "/run/clawdspace/agent"

#: The id an ordinary user's spaces see themselves under; on the host it is that user.
ORDINARY_UID = 1001

_ENVIRONMENT = {
    "HOME": "/workspace",
    "LANG": "C.UTF-8",
    "LOGNAME": "space",
    "PATH": f"{environment.INSIDE}/bin:/usr/local/bin:/usr/bin:/bin",
    "SHELL": "/bin/bash",
    "TERM": "xterm-256color",
    "USER": "space",
}
_SYSTEM_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC_FOLDERS = ("/etc/ssl", "/etc/ssl/certs")
_ETC_OF_HOST = (
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
)

# Runs in the space: starts the agent and tells the host so.  The listening socket is kept from the agent's children,
# for whoever holds it could answer in the agent's place.  Until the agent handles SIGTERM itself there is nothing to
# end but this; a process 1 without a handler would ignore it.
_START_AGENT = (
    "import os, signal, sys; sys.path.insert(0, '/run/clawdspace'); from agent.main import main; "
    "signal.signal(signal.SIGTERM, lambda *_: os._exit(0)); os.set_inheritable({listen}, False); "
    "os.write({ready}, b'1'); os.close({ready}); main()"
)


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Descriptors bubblewrap inherits: of these only ``listen`` and ``ready`` reach the agent."""

    status: int
    seccomp: int
    listen: int
    ready: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that differs from space to space.

    ``uid`` is the host's user id to drop to, as root; None for an ordinary user.  ``etc`` holds the files made for this
    space's /etc, ``packages`` the list of package folders; ``tmp_size`` bounds /tmp and /dev/shm, in bytes.
    """

    hostname: str
    uid: int | None
    python: Python
    agent: Path
    workspace: Path
    layer: Path
    etc: Path
    packages: Path
    tmp_size: int


def bwrap_arguments(plan: Plan, fds: Descriptors, *, root: Path = Path("/")) -> list[str]:
    """Return the arguments for bubblewrap >= 0.8.  ``root`` is where the host's system folders are looked up."""
    return [
        *_isolation(plan, fds),
        *_system(root),
        *_etc(plan.etc),
        *_temporary(plan.tmp_size),
        *_python(plan),
        *_own_places(plan),
        "--remount-ro", "/dev", "--remount-ro", "/",
        *_privileges(plan.uid),
        "--",
        *_command(plan, fds),
    ]  # fmt: skip


def _isolation(plan: Plan, fds: Descriptors) -> list[str]:
    """As root no user namespace: it would map the space's ids to host root."""
    arguments = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if plan.uid is None:
        arguments += ["--unshare-user", "--uid", str(ORDINARY_UID), "--gid", str(ORDINARY_UID), "--disable-userns"]
    # bubblewrap's own process 1 would show the host's environment in /proc/1/environ: the agent is process 1 itself.
    arguments += ["--as-pid-1", "--new-session", "--hostname", plan.hostname]
    arguments += ["--json-status-fd", str(fds.status), "--seccomp", str(fds.seccomp), "--clearenv"]
    for name, value in _ENVIRONMENT.items():
        arguments += ["--setenv", name, value]
    return arguments


def _system(root: Path) -> list[str]:
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM_FOLDERS:
        folder = root / name
        if folder.is_symlink():
            arguments += ["--symlink", str(folder.readlink()), f"/{name}"]
        elif folder.is_dir():
            arguments += ["--ro-bind", f"/{name}", f"/{name}"]
    return [*arguments, "--proc", "/proc", "--dev", "/dev"]


def _etc(made: Path) -> list[str]:
    arguments = [*_folders(["/etc", *_ETC_FOLDERS])]
    for name in ("passwd", "group", "hosts", "nsswitch.conf", "resolv.conf"):
        arguments += ["--ro-bind", str(made / name), f"/etc/{name}"]
    for path in _ETC_OF_HOST:
        arguments += ["--ro-bind-try", path, path]
    return arguments


def _temporary(size: int) -> list[str]:
    arguments = _folders(["/var"])
    for path in ("/tmp", "/dev/shm"):  # noqa: S108  # of the space, not the host
        arguments += ["--perms", "1777", "--size", str(size), "--tmpfs", path]
    return [*arguments, "--symlink", "../tmp", "/var/tmp"]  # noqa: S108  # of the space, not the host


def _python(plan: Plan) -> list[str]:
    arguments = _folders(["/run", "/run/clawdspace"])
    arguments += ["--symlink", str(plan.python.base), str(environment.BASE_INSIDE)]
    arguments += ["--ro-bind", str(plan.packages), str(environment.PACKAGES_INSIDE)]
    for outside, inside in plan.python.mounts.items():
        arguments += [*_folders(_parents(inside)), "--ro-bind", str(outside), str(inside)]
    return arguments


def _own_places(plan: Plan) -> list[str]:
    """What the space may write comes last: nothing may be mounted below it, where it could have laid links."""
    return [
        *_folders(["/opt"]),
        "--ro-bind", str(plan.agent), AGENT_INSIDE,
        "--bind", str(plan.layer), str(environment.INSIDE),
        "--bind", str(plan.workspace), "/workspace",
        "--chdir", "/workspace",
    ]  # fmt: skip


def _parents(path: Path) -> list[str]:
    """Return the folders above ``path``, outermost first; those that are there already keep their modes."""
    there = (Path("/"), Path("/tmp"), Path("/run"), Path("/run/clawdspace"))  # noqa: S108  # of the space, not the host
    return [str(parent) for parent in reversed(path.parents) if parent not in there]


def _folders(paths: Iterable[str]) -> list[str]:
    """Make folders that others than root can enter; those bubblewrap makes on its own are 0700."""
    return [argument for path in paths for argument in ("--perms", "0755", "--dir", path)]


def _privileges(uid: int | None) -> list[str]:
    if uid is None:
        return []
    needed_to_drop = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
    return ["--cap-drop", "ALL", *(argument for name in needed_to_drop for argument in ("--cap-add", name))]


def _command(plan: Plan, fds: Descriptors) -> Sequence[str]:
    start = _START_AGENT.format(listen=fds.listen, ready=fds.ready)
    agent = [str(plan.python.executable), "-I", "-S", "-c", start, "--listen-fd", str(fds.listen)]
    if plan.uid is None:
        return agent
    uid = str(plan.uid)
    drop = ["/usr/bin/setpriv", "--reuid", uid, "--regid", uid, "--clear-groups"]
    return [*drop, "--inh-caps", "-all", "--bounding-set", "-all", "--no-new-privs", *agent]
