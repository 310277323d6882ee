"""The document of the API, the page about it and the route table say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import ValidationError

from clawdspace_ext.handlers.errors import STATUS
from clawdspace_ext.handlers.route import Route
from clawdspace_ext.handlers.routes import FORWARDED, SOCKETS
from clawdspace_ext.requests import CreateBody, ExecBody, StreamBody
from support.openapi import SPEC, check_answer, check_part, operations

DOCS = Path(__file__).parents[3] / "docs"
TABLE = [route for route in (*FORWARDED, *SOCKETS) if not route.local]


def test_every_route_is_in_the_document_and_no_other() -> None:
    table = {(route.method if isinstance(route, Route) else "GET", route.path) for route in TABLE}

    assert operations() == table


def test_what_is_open_is_said_to_be_open() -> None:
    opened = {route.path for route in TABLE if route.action == "open"}
    said = {path for path, item in SPEC["paths"].items() for verb in item.values() if _is_open(verb)}

    assert said == opened


def test_keys_are_taken_where_the_document_says() -> None:
    for route in FORWARDED:
        parameters = SPEC["paths"][route.path][route.method.lower()].get("parameters", [])
        said = {"$ref": "#/components/parameters/IdempotencyKey"} in parameters

        assert said == route.keyed, route.path


def test_every_field_of_a_request_is_in_the_document() -> None:
    for model, name in ((CreateBody, "CreateSpace"), (ExecBody, "Exec"), (StreamBody, "StreamExec")):
        fields = {field.alias for field in model.model_fields.values()}

        assert fields == set(SPEC["components"]["schemas"][name]["properties"])


def test_every_code_of_a_failure_is_in_the_document() -> None:
    said = SPEC["components"]["schemas"]["Error"]["properties"]["code"]["enum"]

    assert {kind.code for kind in STATUS} <= set(said)


def test_every_route_and_its_action_is_on_the_page() -> None:
    page = (DOCS / "api.md").read_text()

    for route in TABLE:
        method = route.method if isinstance(route, Route) else "GET"
        allowed = "everybody" if route.action == "open" else route.action
        assert f"| `{method} {route.path}` | {allowed} |" in page


def test_every_code_of_a_failure_is_on_the_page_with_its_status() -> None:
    page = (DOCS / "api.md").read_text()

    for kind, status in STATUS.items():
        assert f"| {status} | `{kind.code}` |" in page


def test_an_answer_of_another_shape_would_be_noticed() -> None:
    check_part("Health", {"status": "ok", "version": "1"})
    for body in ({"status": "ok"}, {"status": "ok", "version": "1", "more": 1}):
        with pytest.raises(ValidationError):
            check_answer("GET", "/api/health", 200, body)
    with pytest.raises(ValidationError):
        check_answer("GET", "/api/spaces/dev", 404, {"message": "no"})


def _is_open(verb: object) -> bool:
    return isinstance(verb, dict) and verb.get("security") == []
