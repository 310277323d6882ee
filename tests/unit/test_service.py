"""The verbs, over the real agent without isolation."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from clawdspace_ext.errors import Conflict, InvalidRequest, NotFound, Unavailable
from clawdspace_ext.protocols import Engine, Stream
from clawdspace_ext.service import Spaces
from clawdspace_ext.spaces import ExecRequest, SpaceSpec, SpaceState
from clawdspace_ext.testing import LocalEngine
from support.lifecycle import LifecycleMachine


def sh(script: str, **options: object) -> ExecRequest:
    return ExecRequest(("sh", "-c", script), **options)  # type: ignore[arg-type]


class SlowDial(LocalEngine):
    """An engine whose spaces take their time to be reached."""

    async def dial(self, space_id: str) -> Stream:
        await asyncio.sleep(0.2)
        return await super().dial(space_id)


class BrokenStart(LocalEngine):
    """An engine whose spaces do not start."""

    async def start(self, space_id: str) -> None:
        raise Unavailable("the disk is on fire")


@pytest.mark.asyncio
async def test_a_command_runs_with_env_folder_and_stdin(spaces: Spaces) -> None:
    await spaces.create("dev", SpaceSpec(env={"A": "space", "B": "space"}), owner="me")
    await spaces.exec("dev", sh("mkdir sub"))
    result = await spaces.exec("dev", sh("echo $A $B; basename $PWD; cat", env={"B": "call"}, cwd="sub", stdin=b"in"))

    assert (result.stdout, result.exit_code) == (b"space call\nsub\nin", 0)


@pytest.mark.asyncio
async def test_a_name_can_be_had_once_even_at_the_same_moment(spaces: Spaces) -> None:
    outcomes = await asyncio.gather(
        *(spaces.create("dev", SpaceSpec(), owner="me") for _ in range(5)), return_exceptions=True
    )

    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 4
    assert [space.name for space in await spaces.list()] == ["dev"]


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "x" * 49, "é", "a\n"])
async def test_bad_names_are_refused_and_leave_nothing(spaces: Spaces, name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await spaces.create(name, SpaceSpec(), owner="me")

    assert refused.value.field == "name"
    assert refused.value.remedy
    assert await spaces.list() == []


@pytest.mark.asyncio
async def test_a_failed_create_leaves_nothing_and_the_name_is_free_again(tmp_path: Path) -> None:
    engine = BrokenStart(tmp_path)
    spaces = Spaces([engine])
    with pytest.raises(Unavailable, match="on fire"):
        await spaces.create("dev", SpaceSpec(), owner="me")

    assert await spaces.list() == []
    assert await engine.kept() == []
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Unavailable, match="on fire"):
        await spaces.create("dev", SpaceSpec(), owner="me")


@pytest.mark.asyncio
async def test_without_an_engine_the_remedy_is_told() -> None:
    with pytest.raises(Unavailable) as failure:
        await Spaces([]).create("dev", SpaceSpec(), owner="me")

    assert "bubblewrap" in str(failure.value)


@pytest.mark.asyncio
async def test_an_unknown_engine_is_refused_with_the_choices(spaces: Spaces) -> None:
    with pytest.raises(InvalidRequest, match="local") as refused:
        await spaces.create("dev", SpaceSpec(), owner="me", engine="vmware")

    assert refused.value.field == "engine"


@pytest.mark.asyncio
async def test_files_of_one_owner_are_never_adopted_by_another(spaces: Spaces) -> None:
    await spaces.create("dev", SpaceSpec(), owner="ann")
    await spaces.exec("dev", sh("echo secret > f"))
    await spaces.destroy("dev")
    with pytest.raises(NotFound):
        await spaces.create("dev", SpaceSpec(), owner="bob", adopt_volume=True)
    await spaces.create("dev", SpaceSpec(), owner="bob")
    assert (await spaces.exec("dev", sh("ls"))).stdout == b""
    await spaces.destroy("dev", remove_volume=True)
    await spaces.create("dev", SpaceSpec(), owner="ann", adopt_volume=True)

    assert (await spaces.exec("dev", sh("cat f"))).stdout == b"secret\n"


@pytest.mark.asyncio
async def test_output_beyond_the_bound_is_cut_and_says_so(spaces: Spaces) -> None:
    await spaces.create("dev", SpaceSpec(), owner="me")
    result = await spaces.exec("dev", sh("head -c 20000000 /dev/zero; echo end >&2"))

    assert (len(result.stdout), result.truncated, result.stderr) == (8 * 1024 * 1024, True, b"end\n")


@pytest.mark.asyncio
async def test_a_space_that_dies_under_a_command_fails_it_with_the_reason(spaces: Spaces) -> None:
    await spaces.create("dev", SpaceSpec(), owner="me")
    running = asyncio.create_task(spaces.exec("dev", sh("sleep 30")))
    await asyncio.sleep(0.2)
    await spaces.destroy("dev")
    with pytest.raises(Unavailable, match="was destroyed"):
        await running


@pytest.mark.asyncio
async def test_a_stopped_space_does_not_run_a_command_twice(spaces: Spaces, tmp_path: Path) -> None:
    await spaces.create("dev", SpaceSpec(), owner="me")
    running = asyncio.create_task(spaces.exec("dev", sh("echo x >> ran; sleep 30")))
    await asyncio.sleep(0.2)
    await spaces.stop("dev")
    with pytest.raises(Unavailable, match="space was stopped"):
        await running

    assert (await spaces.get("dev")).state is SpaceState.STOPPED
    assert (await spaces.exec("dev", sh("cat ran"))).stdout == b"x\n"


@pytest.mark.asyncio
async def test_looking_at_a_space_that_starts_does_not_disturb_it(tmp_path: Path) -> None:
    spaces = Spaces([SlowDial(tmp_path)])
    await spaces.create("dev", SpaceSpec(), owner="me")
    await spaces.stop("dev")
    running = asyncio.create_task(spaces.exec("dev", sh("echo awake")))
    while not running.done():
        await spaces.list()
        await asyncio.sleep(0.01)

    assert running.result().stdout == b"awake\n"
    await spaces.close()


@pytest.mark.asyncio
async def test_a_verb_on_a_living_space_does_not_ask_the_engine(spaces: Spaces) -> None:
    await spaces.create("dev", SpaceSpec(), owner="me")
    await spaces.exec("dev", sh("true"))
    engine = spaces.engines[0]
    engine.list = engine.dial = None  # type: ignore[method-assign,assignment]
    spaces._catalogue.expire()

    assert (await spaces.exec("dev", sh("true"))).exit_code == 0


def test_any_order_of_verbs_holds_the_model(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        folder = iter(range(10**6))

        class Machine(LifecycleMachine):
            def __init__(self) -> None:
                super().__init__()
                self._engine = LocalEngine(tmp_path / str(next(folder)))

            def make_engine(self) -> Engine:
                return self._engine

        Machine.runner = runner
        run_state_machine_as_test(Machine, settings=settings(max_examples=15, stateful_step_count=15, deadline=None))
