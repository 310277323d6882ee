"""A Docker engine of the tests' own: own socket, data root and exec root, no bridge, killable.

The data root lasts between runs, so that images are built once.  Containers and volumes do not: they are removed when
the engine starts and stops.  One test run at a time uses a root; a second one waits for it.

``python tests/support/dockerd.py install`` prepares a machine; ``… run`` runs such an engine until it is interrupted.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import docker

START_SECONDS = 60.0
STOP_SECONDS = 20.0
BUILD_SECONDS = 900.0
APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
WAIT_FOR_ANOTHER_RUN_SECONDS = 900.0


class NoDocker(Exception):
    """This machine cannot run a Docker engine; the message says why."""


def default_root() -> Path:
    """Where the engine of the tests lives unless ``CLAWDSPACE_TESTS_CACHE`` names another folder."""
    return Path(os.environ.get("CLAWDSPACE_TESTS_CACHE", "/var/cache/clawdspace-tests")) / "docker"


def install_docker() -> None:
    """Install dockerd and mmdebstrap from the system's packages where they are missing.  Raises NoDocker."""
    if os.geteuid() != 0:
        raise NoDocker("starting a Docker engine needs root")
    packages = {"dockerd": "docker.io", "mmdebstrap": "mmdebstrap"}
    if APPARMOR.exists() and APPARMOR.read_text().strip() == "Y":
        packages["apparmor_parser"] = "apparmor"  # without it, dockerd starts no container where AppArmor is on
    missing = [package for program, package in packages.items() if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise NoDocker(f"install {' and '.join(missing)}: this machine has no apt-get")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing]
    for command in (["apt-get", "update", "--quiet"], install):
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise NoDocker(f"{' '.join(command)} failed: {done.stderr[-2000:]}")


class Dockerd:
    """One dockerd process over ``root``; containers live on when it is killed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = root / "docker.sock"
        self.host = f"unix://{self.socket}"
        self.log = root / "dockerd.log"
        self._pid_file = root / "docker.pid"
        self._exec_root = root / "exec"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process to kill in a test of faults."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the engine and wait until it answers.  Raises NoDocker with the end of its log."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._pid_file.unlink(missing_ok=True)
        settings = self.root / "daemon.json"  # so that the machine's own settings do not apply
        settings.write_text("{}")
        arguments = [
            "dockerd",
            f"--host={self.host}",
            f"--data-root={self.root / 'data'}",
            f"--exec-root={self._exec_root}",
            f"--pidfile={self._pid_file}",
            "--live-restore",
            "--bridge=none",
            "--iptables=false",
            f"--config-file={settings}",
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise NoDocker(f"dockerd does not start: …{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether the engine answers now."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:  # docker-py leaks a socket each time nobody listens
                connection.settimeout(5)
                connection.connect(str(self.socket))
                connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 OK" in connection.recv(100)
        except OSError:
            return False

    def kill(self) -> None:
        """End the engine like a crash would; spaces run on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._wait_for_containerd()

    def restart(self) -> None:
        """Kill the engine and start it again."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Remove what the tests made and end the engine."""
        if self._process is None:
            return
        self.clear()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self._sweep()

    def clear(self) -> None:
        """Remove every container and volume; images stay."""
        with contextlib.closing(docker.APIClient(self.host, timeout=60)) as client:
            for container in client.containers(all=True, quiet=True):
                client.remove_container(container["Id"], force=True, v=True)
            for volume in client.volumes()["Volumes"] or []:
                client.remove_volume(volume["Name"], force=True)

    def recover(self) -> None:
        """End the engine that a crashed run left; its containers go when the next one starts."""
        self.log.unlink(missing_ok=True)
        for pid in _pids_of("dockerd", self.root):
            os.kill(pid, signal.SIGKILL)
        self._wait_for_containerd()

    def _wait_for_containerd(self) -> None:
        """containerd dies with its dockerd, a moment later; a new dockerd must not count on the dying one."""
        deadline = time.monotonic() + STOP_SECONDS
        while _pids_of("dockerd", self.root) or _pids_of("containerd", self.root):
            if time.monotonic() > deadline:
                raise NoDocker(f"an engine over {self.root} does not end")
            time.sleep(0.01)
        # Where init is slow to collect the dead, a new dockerd would take that pid for a living containerd.
        (self._exec_root / "containerd" / "containerd.pid").unlink(missing_ok=True)

    def _sweep(self) -> None:
        """With no engine and no container left, nothing under exec/ is worth keeping."""
        if _pids_of("containerd-shim-runc-v2", self.root):
            return
        for mount in _mounts_below(self.root):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self._exec_root, ignore_errors=True)


@contextlib.contextmanager
def start_dockerd(root: Path | None = None) -> Iterator[Dockerd]:
    """Run an engine over ``root`` for as long as the context lasts."""
    engine = Dockerd(root or default_root())
    with _alone(engine.root):
        engine.recover()
        engine.start()
        try:
            engine.clear()
            yield engine
        finally:
            engine.stop()


def shared_dockerd() -> Dockerd:
    """Return the engine of this process, with the default image in it; it stops when the process ends.

    Raises NoDocker, each time at once after the first.
    """
    engine = _first_attempt()
    if isinstance(engine, NoDocker):
        raise engine
    return engine


@functools.cache
def _first_attempt() -> Dockerd | NoDocker:
    stack = contextlib.ExitStack()
    try:
        install_docker()
        engine = stack.enter_context(start_dockerd())
        build_image(engine.host)
    except NoDocker as reason:
        stack.close()
        return reason
    atexit.register(stack.close)
    return engine


def build_image(host: str) -> None:
    """Build the default image of spaces unless it is there.  Raises NoDocker with what the builder said."""
    script = Path(__file__).resolve().parents[2] / "images" / "build.py"
    environment = os.environ | {"DOCKER_HOST": host}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS
    )
    if done.returncode:
        raise NoDocker(f"the image cannot be built: {done.stderr[-4000:]}")


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + WAIT_FOR_ANOTHER_RUN_SECONDS
    with (root / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise NoDocker(f"another test run holds {root}") from None
                time.sleep(0.5)
        yield


def _pids_of(program: str, root: Path) -> list[int]:
    """Return the processes of a program whose command line names something under ``root``."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if Path(command[0]).name == program and any(f"{root}/" in part for part in command[1:]):
            found.append(int(folder.name))
    return found


def _mounts_below(root: Path) -> list[str]:
    """Return the mount points under a folder, deepest first."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return sorted((point for point in points if Path(point).is_relative_to(root)), key=len, reverse=True)


def _main(verb: str) -> None:
    if verb == "install" and os.geteuid() != 0:
        print("tests that need Docker will be skipped: it takes root to start an engine")
    elif verb == "install":
        shared_dockerd()  # so that no test has to wait for packages and images
    elif verb == "run":
        print(f"export DOCKER_HOST={shared_dockerd().host}", flush=True)
        ends = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)
        signal.sigwait(ends)
    else:
        sys.exit(f"usage: {sys.argv[0]} install|run")


if __name__ == "__main__":
    _main(*sys.argv[1:] or [""])
