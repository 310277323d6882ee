"""What labels say about spaces, and what is kept or removed because of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawdspace_ext.engines.docker.records import Labels, Survey, record_volume, survey, workspace_volume
from clawdspace_ext.spaces import MIN_MEMORY, Network, SpaceRecord, SpaceSpec, SpaceState

LABELS = Labels("0123456789abcdef")
NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
A, B = "aaaaaaaaaaaa", "bbbbbbbbbbbb"

SPECS = st.builds(
    SpaceSpec,
    image=st.none() | st.text(min_size=1),
    memory=st.integers(MIN_MEMORY, 1 << 45),
    cpus=st.floats(0.01, 4096),
    env=st.dictionaries(st.text("abc_", min_size=1, max_size=9), st.just("välue=\n")),
    require_limits=st.booleans(),
)


def record(space_id: str, name: str = "dev", **changes: Any) -> SpaceRecord:
    return replace(SpaceRecord(space_id, name, "ann", SpaceSpec(), NOW), **changes)


def container(space_id: str, name: str | None = "dev", *, files: str | None = None, state: str = "running") -> Any:
    """Return a container as the engine lists it."""
    full_name = LABELS.claimed_name(name) if name else LABELS.prepared_name(space_id)
    return {
        "Id": f"docker-{space_id}",
        "Names": [f"/{full_name}"],
        "Image": "sha256:0",
        "Labels": LABELS.of_space(space_id, files or space_id, "image:1", SpaceSpec(cpus=2.0)),
        "State": state,
        "Created": int(NOW.timestamp()),
    }


def workspace(space_id: str) -> Any:
    labels = LABELS.of_workspace(space_id)
    return {"Name": workspace_volume(space_id), "Labels": labels, "CreatedAt": NOW.isoformat()}


def written(record: SpaceRecord, files: str | None = None) -> Any:
    return {"Name": record_volume(record.id), "Labels": LABELS.of_record(record, files or record.id)}


def look(containers: list[Any], volumes: list[Any]) -> Survey:
    return survey(LABELS, containers, volumes)


@given(SPECS, st.text(), st.booleans())
def test_a_record_is_read_back_as_it_was_written(spec: SpaceSpec, owner: str, ephemeral: bool) -> None:
    original = record(A, spec=spec, owner=owner, ephemeral=ephemeral)
    found = look([container(A)], [workspace(A), written(original)])

    assert [space.record for space in found.spaces("docker", ())] == [original]


@pytest.mark.parametrize(
    ("state", "expected"),
    [("running", "running"), ("paused", "paused"), ("exited", "stopped"), ("created", "stopped"), ("dead", "stopped")],
)
def test_the_state_is_the_engines(state: str, expected: str) -> None:
    [space] = look([container(A, state=state)], [written(record(A))]).spaces("docker", ())

    assert space.state is SpaceState(expected)


def test_a_space_whose_record_is_gone_is_still_listed() -> None:
    [space] = look([container(A, "dev")], [workspace(A)]).spaces("docker", ())

    assert (space.name, space.record.owner, space.record.spec.cpus, space.record.created) == ("dev", "", 2.0, NOW)


@pytest.mark.parametrize(
    "labels",
    [
        {"clawdspace.created": "yesterday"},
        {"clawdspace.spec": "[]"},
        {"clawdspace.spec": '{"memory":"much"}'},
        {"clawdspace.spec": '{"memory":1}'},
        {"clawdspace.spec": '{"network":"tomorrow\'s"}'},
        {"clawdspace.spec": '{"field of tomorrow": 1}'},
    ],
)
def test_a_record_nobody_can_read_hides_no_space(labels: dict[str, str]) -> None:
    volume = written(record(A))
    volume["Labels"] |= labels

    [space] = look([container(A)], [workspace(A), volume]).spaces("docker", ())
    [kept] = look([], [workspace(A), volume]).kept().values()

    assert (space.name, space.record.owner, kept.name, kept.owner) == ("dev", "ann", "dev", "ann")


@pytest.mark.parametrize(
    ("spec", "network"),
    [
        ("{}", Network.NONE),
        ('{"network":"none"}', Network.NONE),
        ('{"network":"internet"}', Network.INTERNET),
        ('{"network":"tomorrow\'s"}', Network.NONE),
        ("[]", Network.NONE),
    ],
)
def test_a_network_is_had_only_by_a_record_that_says_so(spec: str, network: Network) -> None:
    volume = written(record(A))
    volume["Labels"] |= {"clawdspace.spec": spec}

    [space] = look([container(A)], [workspace(A), volume]).spaces("docker", ())

    assert space.record.spec.network is network


def test_what_nobody_claimed_is_an_orphan_and_no_space() -> None:
    found = look([container(A, None)], [workspace(A)])

    assert (found.spaces("docker", ()), found.orphans(), found.kept()) == ([], [A], {})


def test_a_workspace_nothing_is_known_of_is_kept_for_a_person_to_decide() -> None:
    found = look([], [workspace(A)])

    assert [(kept.id, kept.name, kept.owner, kept.created) for kept in found.kept().values()] == [(A, "", "", NOW)]
    assert (found.orphans(), found.to_remove(A, remove_files=False)) == ([], [])
    assert found.to_remove(A, remove_files=True) == found.volumes_of(A) == [workspace_volume(A)]


def test_files_without_a_container_are_kept() -> None:
    found = look([], [workspace(A), written(record(A))])

    assert [(kept.id, kept.name, kept.owner) for kept in found.kept().values()] == [(A, "dev", "ann")]
    assert found.orphans() == []


def test_a_record_without_files_is_nothing() -> None:
    assert look([], [written(record(A))]).kept() == {}


def test_adopted_files_are_not_kept_while_a_space_has_them() -> None:
    found = look([container(B, None, files=A)], [workspace(A), written(record(A))])

    assert found.kept() == {}


def test_adopted_files_are_kept_under_their_last_space() -> None:
    """Even when a crash left the record of the space before."""
    later = record(B, "next", created=NOW + timedelta(days=1))
    found = look([], [workspace(A), written(record(A)), written(later, files=A)])

    assert [(kept.id, kept.name) for kept in found.kept().values()] == [(B, "next")]
    assert found.volumes_of(A)[0] == workspace_volume(A)
    assert set(found.volumes_of(A)[1:]) == {record_volume(A), record_volume(B)}


def test_destroying_a_space_keeps_its_files_unless_told_otherwise() -> None:
    found = look([container(A)], [workspace(A), written(record(A))])

    assert found.to_remove(A, remove_files=False) == []
    assert found.to_remove(A, remove_files=True) == [workspace_volume(A), record_volume(A)]


def test_destroying_what_nobody_claimed_leaves_nothing() -> None:
    """A record that a crash in the middle of claiming left goes too."""
    found = look([container(A, None)], [workspace(A), written(record(A))])

    assert found.to_remove(A, remove_files=False) == [workspace_volume(A), record_volume(A)]


@pytest.mark.parametrize("remove_files", [True, False])
def test_what_nobody_claimed_never_takes_adopted_files_along(remove_files: bool) -> None:
    found = look([container(B, None, files=A)], [workspace(A), written(record(A))])

    assert workspace_volume(A) not in found.to_remove(B, remove_files=remove_files)
    assert record_volume(A) not in found.to_remove(B, remove_files=remove_files)


def test_destroying_an_id_of_the_past_does_not_touch_files_that_moved_on() -> None:
    found = look([container(B, "next", files=A)], [workspace(A), written(record(B), files=A)])

    assert workspace_volume(A) not in found.to_remove(A, remove_files=True)


def test_an_agent_volume_or_a_helper_is_no_space() -> None:
    helper = container(A) | {"Labels": LABELS.common("helper")}
    found = look([helper], [{"Name": "x", "Labels": LABELS.common("agent")}])

    assert (found.spaces("docker", ()), found.orphans(), found.kept()) == ([], [], {})
