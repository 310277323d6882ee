"""The daemon's log cannot grow without end, and loses nothing that matters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ODD = """
import logging, sys
from pathlib import Path
from clawdspace_ext import daemon_log
daemon_log.configure(Path(sys.argv[1]))
logging.getLogger("test").info("a\\n2026 ERROR forged\\x1b[2J\\u202e b\\u00e9")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("test").exception("defect")
"""

SCRIPT = """
import logging, os, sys
from pathlib import Path
from clawdspace_ext import daemon_log
daemon_log.MAX_LOG = 2000
daemon_log.configure(Path(sys.argv[1]))
for number in range(100):
    logging.getLogger("test").info("line %d", number)
print("said by print", flush=True)
os.write(2, b"said by a dying library\\n")
"""


def run(log: Path, output: Path, script: str = SCRIPT) -> None:
    with open(output, "ab") as out:
        subprocess.run([sys.executable, "-c", script, str(log)], stdout=out, stderr=out, check=True, timeout=20)


def test_it_starts_anew_at_its_size_and_keeps_one_old_log(tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"

    run(log, log)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["daemon.log", "daemon.log.1"]
    assert all(path.stat().st_size < 2200 for path in tmp_path.iterdir())


def test_what_is_not_logged_but_printed_is_in_it_as_well(tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"

    run(log, log)

    assert log.read_text().endswith("line 99\nsaid by print\nsaid by a dying library\n")


def test_a_terminal_or_other_file_is_never_moved_aside(tmp_path: Path) -> None:
    run(tmp_path / "daemon.log", tmp_path / "elsewhere")

    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
    assert (tmp_path / "elsewhere").read_text().count("line") == 100


def test_nobody_can_forge_a_line_or_steer_a_terminal(tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"

    run(log, log, ODD)

    first, *rest = log.read_text().splitlines()
    assert first.endswith("a\\n2026 ERROR forged\\x1b[2J\\u202e bé")
    assert "ZeroDivisionError" in rest[-1]
