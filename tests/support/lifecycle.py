"""A model of spaces, and a hypothesis machine that holds any engine to it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clawdspace_ext.errors import Conflict, NotFound
from clawdspace_ext.protocols import Engine
from clawdspace_ext.service import Spaces
from clawdspace_ext.spaces import MIB, TRANSITIONS, ExecRequest, SpaceSpec, SpaceState

NAMES = st.sampled_from(["ann", "bob"])


def sh(script: str, *args: str) -> ExecRequest:
    """Return a request that runs a shell script."""
    return ExecRequest(("sh", "-c", script, "sh", *args))


@dataclass
class Model:
    """What a space ought to be; ``sleeper`` is the pid of a process left running in it."""

    state: SpaceState = SpaceState.RUNNING
    files: dict[str, str] = field(default_factory=dict)
    sleeper: str | None = None


class LifecycleMachine(RuleBasedStateMachine):
    """create, exec, pause, stop, start, destroy and the daemon's own death, in any order.

    Subclasses set ``runner`` (an asyncio.Runner) and ``make_engine``.
    """

    runner: asyncio.Runner

    def make_engine(self) -> Engine:
        """Return a new object for the engine under test; what it runs is found by each of them."""
        raise AssertionError

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, Model] = {}
        self.kept: dict[str, list[dict[str, str]]] = {}
        self.counter = 0

    def do(self, job: Coroutine[Any, Any, Any]) -> Any:
        """Run one verb."""
        return self.runner.run(asyncio.wait_for(job, 60))

    @initialize()
    def begin(self) -> None:
        """Start with one space, so that every step has something to work on."""
        self.spaces = Spaces([self.make_engine()])
        self.do(self.spaces.begin())
        self.create_one("ann", adopt=False)

    @rule(name=NAMES, adopt=st.booleans())
    def create(self, name: str, adopt: bool) -> None:
        """A name can be had once; kept files come back when asked for."""
        job = self.spaces.create(name, SpaceSpec(memory=256 * MIB), owner="me", adopt_volume=adopt)
        if name in self.model:
            self.expect(Conflict, job)
        elif adopt and not self.kept.get(name):
            self.expect(NotFound, job)
        else:
            job.close()
            self.create_one(name, adopt)

    def create_one(self, name: str, adopt: bool) -> None:
        """Create a space that can be created."""
        self.do(self.spaces.create(name, SpaceSpec(memory=256 * MIB), owner="me", adopt_volume=adopt))
        self.model[name] = Model(files=self.kept[name].pop() if adopt else {})

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        """A command runs in any state, and what it wrote stays."""
        name = self.existing(data)
        self.counter += 1
        text = str(self.counter)
        result = self.do(self.spaces.exec(name, sh(f"printf {text} > f{text}; printf {text}")))
        assert (result.stdout, result.stderr, result.exit_code) == (text.encode(), b"", 0)
        self.model[name].files[f"f{text}"] = text
        self.model[name].state = SpaceState.RUNNING

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        """Every file is there and none else."""
        name = self.existing(data)
        result = self.do(self.spaces.exec(name, sh("for f in f*; do echo $f; cat $f; echo; done")))
        files = self.model[name].files
        expected = "".join(f"{f}\n{files[f]}\n" for f in sorted(files)) if files else "f*\n\n"
        assert result.stdout.decode() == expected
        self.model[name].state = SpaceState.RUNNING

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def sleeper(self, data: st.DataObject) -> None:
        """A process started in the background lives until the space is stopped."""
        name = self.existing(data)
        model = self.model[name]
        script = "kill -0 $1 2>/dev/null && echo alive || { setsid sleep 1000 >/dev/null 2>&1 & echo $!; }"
        result = self.do(self.spaces.exec(name, sh(script, model.sleeper or "0x")))
        said = result.stdout.decode().strip()
        if model.sleeper is None:
            assert said.isdigit()
            model.sleeper = said
        else:
            assert said == "alive"
        model.state = SpaceState.RUNNING

    @precondition(lambda self: self.model)
    @rule(data=st.data(), verb=st.sampled_from(sorted(TRANSITIONS)))
    def change(self, data: st.DataObject, verb: str) -> None:
        """Verbs lead where the table says, however often they are repeated."""
        name = self.existing(data)
        model = self.model[name]
        model.state = TRANSITIONS[verb][model.state]
        if model.state is SpaceState.STOPPED:
            model.sleeper = None
        assert self.do(getattr(self.spaces, verb)(name)).state is model.state

    @precondition(lambda self: self.model)
    @rule(data=st.data(), remove=st.booleans())
    def destroy(self, data: st.DataObject, remove: bool) -> None:
        """What is destroyed is gone; its files only when that was asked for."""
        name = self.existing(data)
        self.do(self.spaces.destroy(name, remove_volume=remove))
        model = self.model.pop(name)
        if not remove:
            self.kept.setdefault(name, []).append(model.files)

    @rule(name=NAMES)
    def miss(self, name: str) -> None:
        """No verb works on a space that is not there."""
        if name not in self.model:
            for verb in (*TRANSITIONS, "get", "destroy"):
                self.expect(NotFound, getattr(self.spaces, verb)(name))
            self.expect(NotFound, self.spaces.exec(name, sh("true")))

    @rule()
    def daemon_dies(self) -> None:
        """Another daemon finds everything as it is."""
        for link in self.spaces._links.values():
            self.do(link.close("the daemon died"))
        self.spaces._keeper.cancel()
        self.spaces = Spaces([self.make_engine()])
        self.do(self.spaces.begin())

    @invariant()
    def the_list_is_the_model(self) -> None:
        """The engine agrees with the model after every step."""
        if not hasattr(self, "spaces"):
            return
        self.spaces._catalogue.expire()
        listed = {space.name: space.state for space in self.do(self.spaces.list())}
        assert listed == {name: model.state for name, model in self.model.items()}

    def existing(self, data: st.DataObject) -> str:
        """Draw a space that is there."""
        return data.draw(st.sampled_from(sorted(self.model)))

    def expect(self, kind: type[Exception], job: Coroutine[Any, Any, Any]) -> None:
        """Run a verb that must fail."""
        try:
            self.do(job)
        except kind:
            return
        raise AssertionError(f"{kind.__name__} was not raised")

    def teardown(self) -> None:
        """Leave nothing behind."""
        if not hasattr(self, "spaces"):
            return
        for name in list(self.model):
            self.do(self.spaces.destroy(name, remove_volume=True))
        for volume in self.do(self.spaces.kept()):
            self.do(self.spaces.remove_kept(volume.id))
        self.do(self.spaces.close())
