"""A request with a key is done once, and what is kept of it is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from clawdspace_ext.errors import Conflict, Unavailable
from clawdspace_ext.handlers import idempotency
from clawdspace_ext.handlers.idempotency import Answer, FirstAnswers


class Work:
    """Answers with how often it was done."""

    def __init__(self, status: int = 200, size: int = 1) -> None:
        self.done = 0
        self.status = status
        self.size = size
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> Answer:
        self.done += 1
        await self.may_end.wait()
        return Answer(self.status, b"%d" % self.done * self.size)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]  # each scenario is a coroutine function


def test_a_repetition_gets_the_first_answer() -> None:
    async def scenario() -> None:
        answers, work = FirstAnswers(), Work()

        first = await answers.once("a", "k", (b"x",), work)

        assert await answers.once("a", "k", (b"x",), work) == first
        assert await answers.once("a", "other", (b"x",), work) != first
        assert await answers.once("b", "k", (b"x",), work) != first
        with pytest.raises(Conflict):
            await answers.once("a", "k", (b"y",), work)
        with pytest.raises(Conflict):
            await answers.once("a", "k", (b"", b"x"), work)

    run(scenario)


def test_whoever_leaves_does_not_take_the_work_along() -> None:
    async def scenario() -> None:
        answers, work = FirstAnswers(), Work()
        work.may_end.clear()
        first = asyncio.create_task(answers.once("a", "k", (), work))
        second = asyncio.create_task(answers.once("a", "k", (), work))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        work.may_end.set()

        assert await second == Answer(200, b"1")
        assert work.done == 1

    run(scenario)


def test_try_again_is_not_kept() -> None:
    async def scenario() -> None:
        answers, work = FirstAnswers(), Work(status=503)

        await answers.once("a", "k", (), work)
        work.status = 201

        assert await answers.once("a", "k", (), work) == Answer(201, b"2")
        assert await answers.once("a", "k", (), work) == Answer(201, b"2")

    run(scenario)


def test_a_defect_is_not_kept() -> None:
    async def scenario() -> None:
        answers, work = FirstAnswers(), Work()

        async def fail() -> Answer:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await answers.once("a", "k", (), fail)
        assert await answers.once("a", "k", (), work) == Answer(200, b"1")

    run(scenario)


def test_answers_are_forgotten_after_a_day() -> None:
    async def scenario() -> None:
        now = [0.0]
        answers, work = FirstAnswers(clock=lambda: now[0]), Work()

        await answers.once("a", "k", (), work)
        now[0] += idempotency.LIFETIME - 1
        assert await answers.once("a", "k", (), work) == Answer(200, b"1")
        now[0] += 2
        assert await answers.once("a", "k", (), work) == Answer(200, b"2")

    run(scenario)


def test_the_oldest_make_room() -> None:
    async def scenario() -> None:
        answers, work = FirstAnswers(), Work()

        for number in range(idempotency.MAX_ANSWERS + 1):
            await answers.once("a", str(number), (), work)
        count = work.done

        await answers.once("a", str(idempotency.MAX_ANSWERS), (), work)
        assert work.done == count
        await answers.once("a", "0", (), work)
        assert work.done == count + 1

    run(scenario)


def test_large_answers_make_room_sooner() -> None:
    async def scenario() -> None:
        answers, work = FirstAnswers(), Work(size=idempotency.MAX_BYTES // 4)

        for number in range(8):
            await answers.once("a", str(number), (), work)
        work.done = 0
        await answers.once("a", "7", (), work)
        assert work.done == 0
        await answers.once("a", "0", (), work)
        assert work.done == 1

    run(scenario)


def test_what_is_under_way_is_never_forgotten_and_bounded_too() -> None:
    async def scenario() -> None:
        answers, work = FirstAnswers(), Work()
        work.may_end.clear()
        tasks = [
            asyncio.create_task(answers.once("a", str(number), (), work)) for number in range(idempotency.MAX_ANSWERS)
        ]
        await asyncio.sleep(0)

        with pytest.raises(Unavailable):
            await answers.once("a", "more", (), work)
        work.may_end.set()
        await asyncio.gather(*tasks)
        assert (await answers.once("a", "more", (), work)).status == 200

    run(scenario)
