"""Every command of the space, running or ended unseen: started, followed, listed and signalled by id."""

from __future__ import annotations

from collections import OrderedDict

from .flow import Flow
from .process import STDERR, STDOUT, Process
from .services import Refuse, number_of, text_of

MYPY = False
if MYPY:
    from typing import Any, Dict, List

    from .main import Agent

KEEP_FINISHED = 32
MAX_PROCESSES = 1024


class Processes:
    """Every command that runs, and the last few that ended unseen."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._all: OrderedDict[str, Process] = OrderedDict()

    def run(self, flow: Flow, args: Dict[str, Any]) -> None:
        """Serve a flow of kind ``exec``."""
        argv = args.get("argv")
        if not isinstance(argv, list) or not argv or not all(isinstance(a, str) and "\0" not in a for a in argv):
            raise Refuse("invalid", "argv must be a list of texts")
        process_id = text_of(args, "id")
        if process_id in self._all:
            self.follow(flow, args)  # the same request again, after the answer was lost
            return
        self._make_room()
        process = Process(self._agent, process_id, argv)
        process.run(flow, args)
        self._all[process_id] = process

    def follow(self, flow: Flow, args: Dict[str, Any]) -> None:
        """Serve a flow of kind ``attach``."""
        process = self.get(args)
        offsets = args.get("offsets")
        known = offsets if isinstance(offsets, dict) else {}
        process.follow(flow, {c: number_of(known, str(c)) for c in (STDOUT, STDERR)})

    def get(self, args: Dict[str, Any]) -> Process:
        """Return the process named by ``id``.  Raises Refuse."""
        process = self._all.get(text_of(args, "id"))
        if process is None:
            raise Refuse("not_found", "there is no such process, or it ended long ago")
        return process

    def list(self, args: Dict[str, Any]) -> List[Dict[str, Any]]:
        """Tell what runs, oldest first."""
        return [
            {"id": p.id, "pid": p.pid, "argv": p.argv, "started": p.started, "running": p.status is None}
            for p in self._all.values()
        ]

    def signal(self, args: Dict[str, Any]) -> None:
        """Signal a process, followed or not."""
        self.get(args).signal(number_of(args, "signal"))

    def forget(self, process: Process) -> None:
        """Its end has been told."""
        self._all.pop(process.id, None)

    def _make_room(self) -> None:
        finished = [p for p in self._all.values() if p.reported]
        for process in finished[: max(0, len(finished) - KEEP_FINISHED)]:
            self.forget(process)
        if len(self._all) >= MAX_PROCESSES:
            raise Refuse("busy", "%d commands run in this space already" % len(self._all))
