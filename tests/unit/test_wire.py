"""Models to JSON and back, and what a request may say."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawdspace_ext import wire
from clawdspace_ext.errors import ERRORS_BY_CODE, Broken, InvalidRequest, NotFound, SpaceError, Unavailable
from clawdspace_ext.requests import CreateBody, ExecBody, StreamBody, read_body, read_control
from clawdspace_ext.spaces import (
    GIB,
    MIB,
    ExecRequest,
    ExecResult,
    KeptVolume,
    Space,
    SpaceRecord,
    SpaceSpec,
    SpaceState,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2g", 2 * GIB),
        ("2G", 2 * GIB),
        ("2gb", 2 * GIB),
        ("2GiB", 2 * GIB),
        ("512m", 512 * MIB),
        ("65536k", 64 * MIB),
        ("1048576b", MIB),
        ("1.5g", 1536 * MIB),
        ("0.5t", 512 * GIB),
        ("512", 512 * MIB),
        (512, 512 * MIB),
        (0.5, MIB // 2),
        (" 1g ", GIB),
        ("0", 0),
    ],
)
def test_memory_is_read_as_people_write_it(text: str | float, size: int) -> None:
    assert wire.parse_memory(text) == size


@pytest.mark.parametrize(
    "text", ["", "g", "-1g", "1gg", "1 g b", "0x10", "1e9", "\uff11g", "9" * 40, "1025t", True, "inf", "1.g"]
)
def test_what_is_no_amount_of_memory_is_refused(text: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        wire.parse_memory(text)

    assert refused.value.field == "memory"
    assert len(refused.value.message) < 200


def space(**fields: Any) -> Space:
    spec = SpaceSpec(image="python", memory=3 * GIB, cpus=2.0)
    record = SpaceRecord("0123456789ab", "dev", "alice", spec, NOW, **fields)
    return Space(record, SpaceState.PAUSED, "docker", "python:3.12", NOW, ("pids",), NOW + timedelta(seconds=1))


def test_a_space_has_the_shape_that_clients_parse() -> None:
    assert json.loads(wire.dumps(wire.space_to_json(space()))) == {
        "name": "dev",
        "id": "0123456789ab",
        "status": "paused",
        "created": "2026-01-02T03:04:05.678901Z",
        "started": "2026-01-02T03:04:05.678901Z",
        "image": "python:3.12",
        "memory": 3 * GIB,
        "cpus": 2,
        "lastActivity": "2026-01-02T03:04:06.678901Z",
        "volume": {"name": "0123456789ab", "mountpoint": "/workspace"},
        "engine": "docker",
        "owner": "alice",
        "network": "internet",
        "notEnforced": ["pids"],
    }


def test_what_does_not_apply_is_left_out() -> None:
    record = SpaceRecord("0123456789ab", "dev", "alice", SpaceSpec(), NOW)
    bare = wire.space_to_json(Space(record, SpaceState.STOPPED, "docker", "python"))

    assert (bare["started"], bare["lastActivity"]) == (None, None)
    assert "notEnforced" not in bare
    assert "ephemeral" not in bare
    assert wire.space_to_json(space(ephemeral=True))["ephemeral"] is True


def test_times_are_shown_in_utc() -> None:
    record = SpaceRecord("0123456789ab", "dev", "a", SpaceSpec(), NOW.astimezone(timezone(timedelta(hours=5))))

    assert wire.space_to_json(Space(record, SpaceState.STOPPED, "e", "i"))["created"] == "2026-01-02T03:04:05.678901Z"


def test_models_survive_the_way_through_json() -> None:
    def through(value: object) -> Any:
        return json.loads(wire.dumps(value))

    volume = KeptVolume("0123456789ab", "dev", "bøb", NOW)
    result = ExecResult(b"\xff\x00", b"e", 137, 1.5, signal=9, timed_out=True, truncated=True)

    known = wire.space_from_json(through(wire.space_to_json(space(ephemeral=True))))
    assert known.record.spec.image == "python:3.12"
    assert wire.space_to_json(known) == wire.space_to_json(space(ephemeral=True))
    assert wire.kept_from_json(through(wire.kept_to_json(volume))) == volume
    assert wire.exec_from_json(through(wire.exec_to_json(result, base64=True))) == result


@given(st.binary(), st.binary())
def test_base64_keeps_every_byte_and_text_flags_what_it_loses(stdout: bytes, stderr: bytes) -> None:
    result = ExecResult(stdout, stderr, 0, 0.5)

    exact = json.loads(wire.dumps(wire.exec_to_json(result, base64=True)))
    text = json.loads(wire.dumps(wire.exec_to_json(result)))

    assert wire.exec_from_json(exact) == result
    lossless = (text["stdout"].encode(), text["stderr"].encode()) == (stdout, stderr)
    assert lossless == ("invalidUtf8" not in text)


@given(JSON)
def test_an_answer_of_any_shape_is_a_model_or_broken(shape: Any) -> None:
    for read in (wire.space_from_json, wire.kept_from_json, wire.exec_from_json):
        with pytest.raises(Broken):
            read(shape)


def test_what_the_client_sends_is_what_the_server_reads() -> None:
    spec = SpaceSpec(image="python", memory=MIB * 100 + 1, cpus=0.5, env={"A": "é"}, require_limits=True)
    request = ExecRequest(("ls", "-l"), env={"A": "1"}, cwd="/tmp", timeout=1.5)

    body = read_body(CreateBody, wire.dumps(wire.create_to_json("dev", spec, adopt_volume=True, engine="docker")))
    command = read_body(ExecBody, wire.dumps(wire.command_to_json(request)))

    assert (body.name, body.spec(), body.adopt_volume, body.engine) == ("dev", spec, True, "docker")
    assert command.exec_request() == request


def test_failures_keep_their_kind_on_the_way() -> None:
    for kind in ERRORS_BY_CODE.values():
        error = kind("it is so", field=None if kind is NotFound else "name", remedy="do this")

        shape = json.loads(wire.dumps(wire.error_to_json(error)))
        back = wire.error_from_json(400, shape)

        assert (type(back), back.message, back.field, back.remedy) == (kind, error.message, error.field, error.remedy)


def test_an_answer_for_what_is_missing_has_no_field() -> None:
    assert "field" not in wire.error_to_json(NotFound("no", field="name"))


@pytest.mark.parametrize("shape", [None, [], {}, {"error": 1}, {"message": "Forbidden"}])
def test_a_strangers_failure_is_unavailable(shape: object) -> None:
    assert isinstance(wire.error_from_json(502, shape), Unavailable)


def test_an_unknown_code_is_told_by_its_status() -> None:
    assert isinstance(wire.error_from_json(403, {"error": "no", "code": "forbidden"}), InvalidRequest)
    assert isinstance(wire.error_from_json(599, {"error": "no", "code": "strange"}), Broken)


def test_json_is_compact_and_never_fails_on_somebodys_text() -> None:
    assert wire.dumps({"a": [1, "é"]}) == '{"a":[1,"é"]}'.encode()
    assert wire.dumps("\ud800") == b'"?"'


@given(st.dictionaries(st.sampled_from([field.alias for field in CreateBody.model_fields.values()]), JSON))
def test_whatever_is_asked_for_is_a_spec_or_refused(value: Any) -> None:
    try:
        read_body(CreateBody, json.dumps({"name": "dev"} | value)).spec()
    except SpaceError as error:
        json.loads(wire.dumps(wire.error_to_json(error)))


@given(st.dictionaries(st.sampled_from(["command", "env", "cwd", "timeout", "stdin", "tty", "type"]), JSON))
def test_whatever_is_to_be_run_is_a_request_or_refused(value: Any) -> None:
    text = json.dumps({"command": "true"} | value)
    for read in (
        lambda: read_body(ExecBody, text).exec_request(),
        lambda: read_body(StreamBody, text).exec_request(),
        lambda: read_control(text),
    ):
        try:
            read()
        except SpaceError as error:
            json.loads(wire.dumps(wire.error_to_json(error)))


@given(st.binary())
def test_bytes_that_are_no_json_are_refused(body: bytes) -> None:
    with pytest.raises(SpaceError):
        read_body(CreateBody, body)


def test_empty_and_default_values_of_later_fields_are_accepted() -> None:
    body = {
        "name": "dev",
        "gpu": False,
        "template": "",
        "envFileText": None,
        "envFileBase64": "",
        "envFilePath": "/workspace/.env",
        "repoUrl": "",
        "repoBranch": None,
        "network": "",
        "env": None,
        "cpus": None,
        "memory": None,
        "image": "",
    }

    assert read_body(CreateBody, wire.dumps(body)).spec() == SpaceSpec()
