"""Guessing is slowed down; being wrong in the same way again and again is not guessing."""

from __future__ import annotations

from clawdspace_ext.handlers import refusals as limits
from clawdspace_ext.handlers.refusals import Refusals


def guess(refusals: Refusals, address: str, count: int) -> None:
    for number in range(count):
        refusals.note(address, f"guess{number}")


def test_guesses_of_one_address_are_bounded_and_those_of_others_are_not_touched() -> None:
    refusals = Refusals(lambda: 0.0)

    guess(refusals, "a", limits.MAX_REFUSALS - 1)
    assert not refusals.exhausted("a")
    guess(refusals, "a", limits.MAX_REFUSALS)

    assert refusals.exhausted("a")
    assert not refusals.exhausted("b")


def test_the_next_minute_is_another() -> None:
    now = [0.0]
    refusals = Refusals(lambda: now[0])
    guess(refusals, "a", limits.MAX_REFUSALS)
    now[0] = limits.WINDOW

    assert not refusals.exhausted("a")
    refusals.note("a", "one more")
    assert not refusals.exhausted("a")


def test_the_same_wrong_credential_counts_once() -> None:
    refusals = Refusals(lambda: 0.0)
    for _ in range(limits.MAX_REFUSALS * 2):
        refusals.note("a", "stale")

    assert not refusals.exhausted("a")


def test_only_so_many_addresses_are_remembered() -> None:
    refusals = Refusals(lambda: 0.0)
    guess(refusals, "first", limits.MAX_REFUSALS)
    for number in range(limits.MAX_ADDRESSES):
        refusals.note(str(number), "x")

    assert not refusals.exhausted("first")
