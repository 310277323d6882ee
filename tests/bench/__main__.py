"""`make bench`: what clawdspace takes, against a named peer, interleaved in one run.

Prints a table, and with ``--json FILE`` writes the same figures.  A figure is a median with its 95th percentile; the
ratio is what counts, since the peer ran on the same machine in the same minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import docker

from bench.notebook import JupyterServer, Kernel
from clawdspace_ext.client import SpacesClient
from clawdspace_ext.daemon_process import ensure_daemon, stop
from clawdspace_ext.spaces import MIB, ExecRequest, SpaceSpec
from support.dockerd import Dockerd, shared_dockerd

TRUE = ExecRequest(("true",))
IMAGE = "clawdspace:latest"


@dataclass
class Row:
    """One figure.  ``p50`` and ``p95`` in ``unit``; ``budget`` is design section 8's, in words."""

    what: str
    p50: float
    p95: float
    unit: str
    peer: str
    peer_p50: float | None
    budget: str

    @property
    def ratio(self) -> str:
        """How it compares to the peer."""
        return f"{self.p50 / self.peer_p50:.2f} x" if self.peer_p50 else ""


def timed(job: Callable[[], object]) -> float:
    """Return the milliseconds a job takes."""
    began = time.perf_counter()
    job()
    return (time.perf_counter() - began) * 1000


def p95(values: list[float]) -> float:
    """Return the 95th percentile."""
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.95))]


def compare(
    what: str,
    ours: Callable[[], object],
    peer: str,
    theirs: Callable[[], object] | None,
    budget: str,
    runs: int,
    before: Callable[[], object] = lambda: None,
) -> Row:
    """Time both in turn; ``before`` runs ahead of each of ours and is not timed."""
    mine: list[float] = []
    other: list[float] = []
    for number in range(runs + 2):
        before()
        taken = timed(ours)
        peer_taken = timed(theirs) if theirs is not None else 0.0
        if number >= 2:  # the first two warm caches up
            mine.append(taken)
            other.append(peer_taken)
    peer_p50 = statistics.median(other) if theirs is not None else None
    return Row(what, statistics.median(mine), p95(mine), "ms", peer, peer_p50, budget)


class Bench:
    """A daemon of its own over a Docker engine of its own, with one running space."""

    def __init__(self, engine: Dockerd, client: SpacesClient, runs: int) -> None:
        self.api = docker.APIClient(engine.host, timeout=60)
        self.client = client
        self.runs = runs
        client.create("bench", SpaceSpec(memory=512 * MIB))
        client.exec("bench", TRUE)
        ours = self.api.containers(filters={"label": "clawdspace.managed=1"})
        self.container = ours[0]["Id"]

    def docker_exec(self) -> None:
        """Run `true` as every Docker client would."""
        created = self.api.exec_create(self.container, ["true"], user="1001")
        self.api.exec_start(created["Id"])
        assert self.api.exec_inspect(created["Id"])["ExitCode"] == 0

    def docker_run(self) -> None:
        """`docker run -d`, then `docker exec true`, of the same image with the same limits."""
        host = self.api.create_host_config(network_mode="none", mem_limit="512m", nano_cpus=10**9)
        created = self.api.create_container(IMAGE, ["sleep", "600"], host_config=host)
        self.api.start(created["Id"])
        run = self.api.exec_create(created["Id"], ["true"])
        self.api.exec_start(run["Id"])
        self._last = created["Id"]

    def create_and_run(self) -> None:
        """Create a space and run `true` in it."""
        self.client.create("fresh", SpaceSpec(memory=512 * MIB))
        self.client.exec("fresh", TRUE)

    def remove_last(self) -> None:
        """Remove what the last comparison of creating left."""
        with contextlib.suppress(AttributeError):
            self.api.remove_container(self._last, force=True)
            del self._last
        if any(space.name == "fresh" for space in self.client.list()):
            self.client.destroy("fresh", remove_volume=True)

    def stream(self) -> Row:
        """Read 400 MB of a command's output at the daemon's socket."""
        rates = []
        for _ in range(3):
            began = time.perf_counter()
            process = self.client.open_exec("bench", ExecRequest(("head", "-c", "400000000", "/dev/zero")))
            size = sum(len(data) for _, data in process.output())
            rates.append(size / 1e6 / (time.perf_counter() - began))
            process.close()
        return Row("streamed exec output", statistics.median(rates), min(rates), "MB/s", "", None, ">= 100 MB/s")

    def transfers(self) -> Iterator[Row]:
        """Write and read a file of 200 MB."""
        piece, pieces = bytes(256 * 1024), 763

        def read() -> None:
            with self.client.open_file("bench", "/big") as answer:
                for _ in answer:
                    pass

        jobs = {
            "write a file of 200 MB": lambda: self.client.write_file("bench", "/big", (piece for _ in range(pieces))),
            "read a file of 200 MB": read,
        }
        for what, job in jobs.items():
            rates = [len(piece) * pieces / 1e3 / timed(job) for _ in range(3)]
            yield Row(what, statistics.median(rates), min(rates), "MB/s", "", None, "")
        self.client.delete_file("bench", "/big")

    def idle_memory(self) -> Row:
        """The whole cgroup of a space in which nothing runs."""
        self.client.create("idle", SpaceSpec(memory=512 * MIB))
        time.sleep(1)
        (container,) = self.api.containers(filters={"name": "-idle"})
        pid = self.api.inspect_container(container["Id"])["State"]["Pid"]
        used = cgroup_memory(pid) / 1e6
        self.client.destroy("idle", remove_volume=True)
        return Row("an idle space's whole cgroup", used, used, "MB", "", None, "<= 20 MB")

    def commands(self) -> Iterator[Row]:
        """Everything that needs no Jupyter."""
        client, runs = self.client, self.runs
        true = lambda: client.exec("bench", TRUE)  # noqa: E731  # a name makes the rows below read well
        yield compare("exec `true` over REST", true, "docker exec via API", self.docker_exec, "<= 5 ms, <= 1/10", runs)
        asleep = lambda: client.pause("bench")  # noqa: E731
        yield compare("wake a paused space, run `true`", true, "", None, "<= 30 ms", runs // 4, before=asleep)
        yield compare(
            "create to first exec",
            self.create_and_run,
            "docker run -d, exec",
            self.docker_run,
            "<= 1.2 x",
            max(5, runs // 20),
            before=self.remove_last,
        )
        self.remove_last()
        yield compare("list, one space", lambda: client.list(), "", None, "100 in <= 15 ms", runs)
        cli = [str(Path(sys.executable).parent / "clawdspace"), "exec", "bench", "--", "true"]
        yield compare(
            "CLI exec, whole process", lambda: subprocess.run(cli, check=True), "", None, "<= 150 ms", runs // 8
        )
        content = bytes(1024)
        write = lambda: client.write_file("bench", "/k", content)  # noqa: E731
        yield compare("write a file of 1 KB", write, "", None, "<= 5 ms", runs)
        yield compare("read a file of 1 KB", lambda: client.read_file("bench", "/k"), "", None, "<= 5 ms", runs)
        yield compare("stats", lambda: client.stats("bench"), "", None, "<= 10 ms", runs)
        yield from self.transfers()
        yield self.stream()
        yield self.idle_memory()


def cgroup_memory(pid: int) -> int:
    """Return the bytes charged to a process's memory cgroup, v1 or v2."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return int(Path(f"/sys/fs/cgroup/memory{path}/memory.usage_in_bytes").read_text())
        if not controllers and Path(f"/sys/fs/cgroup{path}/memory.current").exists():
            return int(Path(f"/sys/fs/cgroup{path}/memory.current").read_text())
    raise LookupError("no memory cgroup")


def cells(home: Path, runs: int) -> Iterator[Row]:
    """`pass` to idle over a websocket, and kernel start to first result: a space, local with no-delay, local stock."""
    with JupyterServer(home, extension=True) as ours, JupyterServer(home, extension=False) as stock:
        kernels = {
            "space": Kernel(ours, "clawdspace-bench"),
            "no-delay": Kernel(ours, "python3"),
            "stock": Kernel(stock, "python3"),
        }
        times: dict[str, list[float]] = {name: [] for name in kernels}
        for number in range(runs + 5):
            for name, kernel in kernels.items():
                taken = timed(kernel.run_pass)
                if number >= 5:
                    times[name].append(taken)
        for kernel in kernels.values():
            kernel.close()
        mine, no_delay = times["space"], statistics.median(times["no-delay"])
        row = Row(
            "cell `pass` to idle", statistics.median(mine), p95(mine), "ms", "local, no-delay", no_delay, "<= 1.6 x"
        )
        yield row
        yield Row(row.what, row.p50, row.p95, "ms", "local, stock", statistics.median(times["stock"]), "<= 1/6")
        space, local = (
            (lambda: Kernel(ours, "clawdspace-bench").first_result()),
            (lambda: Kernel(stock, "python3").first_result()),
        )
        yield compare(
            "kernel start to first result", space, "local, stock", local, "<= 1/3 in a warm space", max(5, runs // 20)
        )


def report(rows: list[Row]) -> None:
    """Print the table."""
    print(f"\n{'what':34} {'p50':>9} {'p95':>9}      {'against':22} {'p50':>9} {'ratio':>8}  budget")
    for row in rows:
        peer = f"{row.peer_p50:9.2f}" if row.peer_p50 else " " * 9
        figures = f"{row.p50:9.2f} {row.p95:9.2f} {row.unit:4} {row.peer:22} {peer} {row.ratio:>8}"
        print(f"{row.what:34} {figures}  {row.budget}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="cs-bench-") as folder:
        engine = shared_dockerd()
        os.environ.update(
            CLAWDSPACE_HOME=folder,
            DOCKER_HOST=engine.host,
            JUPYTER_DATA_DIR=f"{folder}/jupyter",
            JUPYTER_RUNTIME_DIR=f"{folder}/run",
        )
        client = SpacesClient(ensure_daemon())
        try:
            bench = Bench(engine, client, options.runs)
            for row in bench.commands():
                rows.append(row)
                report([row])
            rows.extend(cells(Path(folder), options.runs))
        finally:
            for space in client.list():
                client.destroy(space.name, remove_volume=True)
            stop()
    report(rows)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
