"""Any order of verbs, with the daemon dying in between, on the real engines."""

from __future__ import annotations

import asyncio
import os

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from clawdspace_ext.protocols import Engine
from support.lifecycle import LifecycleMachine

from .conftest import BuildEngine

SOAK = bool(os.environ.get("CLAWDSPACE_SOAK"))


def test_any_order_of_verbs_holds_the_model(build_engine: BuildEngine) -> None:
    with asyncio.Runner() as runner:

        class Machine(LifecycleMachine):
            def make_engine(self) -> Engine:
                return build_engine()

        Machine.runner = runner
        size = (
            {"max_examples": 200, "stateful_step_count": 40}
            if SOAK
            else {"max_examples": 15, "stateful_step_count": 20}
        )
        run_state_machine_as_test(
            Machine, settings=settings(**size, deadline=None, derandomize=not SOAK, print_blob=True)
        )
