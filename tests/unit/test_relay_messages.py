"""Jupyter messages taken apart and signed again, against jupyter_client's own session."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.session import Session

from clawdspace_ext.relay.messages import DELIMITER, Malformed, Message, Signer, compose

identities = st.lists(st.binary(max_size=20).filter(lambda part: part != DELIMITER), max_size=4)
buffers = st.lists(st.binary(max_size=50), max_size=3)


@given(identities, buffers)
def test_a_message_signed_again_is_the_same_under_the_other_key(idents: list[bytes], data: list[bytes]) -> None:
    sender, receiver = Session(key=b"inside"), Session(key=b"outside")
    sent = sender.msg("stream", {"name": "stdout", "text": "hällo"}, metadata={"a": 1})
    wire = [*sender.serialize(sent, ident=idents), *data]
    message = Message.parse(wire)
    assert message.is_signed_by(Signer(b"inside"))
    assert not message.is_signed_by(Signer(b"outside"))
    found_identities, parts = receiver.feed_identities(message.signed(Signer(b"outside")))
    got = receiver.deserialize(parts)
    assert found_identities == idents
    assert (got["content"], got["metadata"], got["msg_id"]) == (sent["content"], sent["metadata"], sent["msg_id"])
    assert [bytes(part) for part in got["buffers"]] == data


@given(st.lists(st.one_of(st.binary(max_size=30), st.just(DELIMITER)), max_size=12))
def test_parts_that_are_no_message_are_malformed_and_nothing_worse(parts: list[bytes]) -> None:
    try:
        Message.parse(parts).header()
    except Malformed:
        pass


@pytest.mark.parametrize(
    "header", [b"", b"[" * 100_000, b"[]", b'"x"', b"{}", b'{"msg_type": 1}', b"{" + b" " * 70_000 + b"}", b"\xff"]
)
def test_a_header_without_a_type_is_malformed(header: bytes) -> None:
    with pytest.raises(Malformed):
        Message([], b"", [header, b"{}", b"{}", b"{}"], []).header()


def test_too_many_identities_are_malformed() -> None:
    with pytest.raises(Malformed):
        Message.parse([*[b"x"] * 17, DELIMITER, b"", b"{}", b"{}", b"{}", b"{}"])


def test_a_message_of_our_own_is_one_that_clients_understand() -> None:
    client = Session(key=b"k")
    request = client.msg("shutdown_request", {"restart": False})
    ours = compose(
        "shutdown_reply",
        {"status": "ok"},
        identities=[b"me"],
        parent=json.dumps(request["header"], default=str).encode(),
    )
    idents, parts = client.feed_identities(ours.signed(Signer(b"k")))
    got = client.deserialize(parts)
    assert idents == [b"me"]
    assert got["msg_type"] == "shutdown_reply"
    assert got["parent_header"]["msg_id"] == request["msg_id"]
