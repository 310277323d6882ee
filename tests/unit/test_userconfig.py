"""``~/.clawdspace`` is read, not run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawdspace_ext.errors import InvalidRequest
from clawdspace_ext.userconfig import MAX_FILE, parse, read_config


def values(text: str) -> dict[str, str]:
    return {name: entry.value for name, entry in parse(text.encode(), "file").items()}


def test_a_file_as_people_have_it_is_understood() -> None:
    text = """# my servers

CLAWDSPACE_KEY="s3cret # not a comment"   # a comment
export CLAWDSPACE_HOSTS="server1 server2 192.168.1.100"
KNOWN_HOSTS='a "b"'
BARE=value#x
"""
    with pytest.raises(InvalidRequest, match="line 6"):
        values(text)
    assert values(text.replace("value#x", "value # x")) == {
        "CLAWDSPACE_KEY": "s3cret # not a comment",
        "CLAWDSPACE_HOSTS": "server1 server2 192.168.1.100",
        "KNOWN_HOSTS": 'a "b"',
        "BARE": "value",
    }


def test_nothing_in_it_is_run(tmp_path: Path) -> None:
    file = tmp_path / ".clawdspace"
    file.write_text(f'CLAWDSPACE_KEY="$(touch {tmp_path}/ran)"\nCLAWDSPACE_HOSTS="`id` $HOME"\n')

    found = read_config(file)

    assert found["CLAWDSPACE_KEY"].value == f"$(touch {tmp_path}/ran)"
    assert found["CLAWDSPACE_HOSTS"].value == "`id` $HOME"
    assert [path.name for path in tmp_path.iterdir()] == [".clawdspace"]


@pytest.mark.parametrize(
    "line",
    [
        'A="b',
        "A='b",
        'A="b" c',
        "A=b c",
        "A = b",
        "1A=b",
        "A",
        "rm -rf /",
        "source x",
        'A="b";id',
        "A=b;\0",
        "Ä=b",
        "=b",
    ],
)
def test_a_line_that_is_no_setting_is_named_by_its_number(line: str) -> None:
    with pytest.raises(InvalidRequest, match=r"file, line 3: ") as caught:
        parse(f'A="1"\n\n{line}\nB="2"\n'.encode(), "file")
    assert caught.value.remedy


def test_bytes_that_are_no_text_are_named_by_their_line() -> None:
    with pytest.raises(InvalidRequest, match="line 2"):
        parse(b"A=1\n\xff\xfe=2\n", "file")


def test_the_last_of_two_counts_and_lines_are_known() -> None:
    found = parse(b'A="1"\r\nA="2"\r\n', "file")

    assert (found["A"].value, found["A"].line) == ("2", 2)


def test_what_a_shell_escapes_in_quotes_is_unescaped() -> None:
    assert values(r'A="a\"b\\c\$d\n"') == {"A": r'a"b\c$d\n'}


def test_no_file_says_nothing_and_a_folder_or_a_huge_file_is_an_error(tmp_path: Path) -> None:
    assert read_config(tmp_path / "none") == {}
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_config(tmp_path)
    (tmp_path / "big").write_bytes(b"#" * (MAX_FILE + 1))
    with pytest.raises(InvalidRequest, match="longer"):
        read_config(tmp_path / "big")


@given(st.binary(max_size=200))
def test_whatever_is_in_it_is_settings_or_an_error(raw: bytes) -> None:
    try:
        found = parse(raw, "file")
    except InvalidRequest:
        return
    assert all(1 <= entry.line <= raw.count(b"\n") + 1 for entry in found.values())


@given(st.text(st.characters(codec="utf-8", exclude_characters='"\\\n\r\0'), max_size=50))
def test_any_text_in_quotes_is_itself(text: str) -> None:
    assert values(f'A="{text}"') == {"A": text}
