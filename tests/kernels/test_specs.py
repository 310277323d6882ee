"""Kernel specs of spaces, as folders among those of others."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.kernelspec import KernelSpecManager

from clawdspace_kernels.specs import KernelSpecs, spec_names

names = st.sets(st.from_regex(r"[a-cA-C][a-cA-C_-]{0,2}", fullmatch=True), max_size=12)


def found(data_dir: Path) -> set[str]:
    return set(
        KernelSpecManager(kernel_dirs=[str(data_dir / "kernels")], ensure_native_kernel=False).find_kernel_specs()
    )


def test_specs_come_and_go_with_their_spaces(tmp_path: Path) -> None:
    specs = KernelSpecs(tmp_path, "mine")
    specs.sync(["dev", "gpu"])
    assert found(tmp_path) == {"clawdspace-dev", "clawdspace-gpu"}
    specs.sync(["gpu", "new"])
    assert found(tmp_path) == {"clawdspace-gpu", "clawdspace-new"}
    specs.sync([])
    assert found(tmp_path) == set()
    assert [path.name for path in tmp_path.iterdir()] == ["kernels"]


def test_a_spec_names_its_space_and_has_logos(tmp_path: Path) -> None:
    KernelSpecs(tmp_path, "mine").sync(["Dev"])
    folder = tmp_path / "kernels" / "clawdspace-dev"
    spec = json.loads((folder / "kernel.json").read_text())
    assert spec["display_name"] == "Python 3 (Dev)"
    assert spec["metadata"]["kernel_provisioner"] == {
        "provisioner_name": "clawdspace-provisioner",
        "config": {"space": "Dev"},
    }
    assert {path.name for path in folder.iterdir()} == {
        "kernel.json",
        "logo-32x32.png",
        "logo-64x64.png",
        "logo-svg.svg",
    }


def test_what_others_put_there_is_left_alone(tmp_path: Path) -> None:
    KernelSpecs(tmp_path, "other").sync(["theirs", "both"])
    for name, text in (("clawdspace-broken", "{"), ("clawdspace-list", "[]"), ("python3", "{}")):
        (tmp_path / "kernels" / name).mkdir()
        (tmp_path / "kernels" / name / "kernel.json").write_text(text)
    before = {path: path.read_text() for path in tmp_path.glob("kernels/*/kernel.json")}
    mine = KernelSpecs(tmp_path, "mine")
    mine.sync(["both", "mine", "broken"])
    mine.sync([])
    assert {path: path.read_text() for path in tmp_path.glob("kernels/*/kernel.json")} == before


def test_a_spec_that_was_changed_is_put_right_and_one_that_is_right_is_not_touched(tmp_path: Path) -> None:
    specs = KernelSpecs(tmp_path, "mine")
    specs.sync(["dev", "gpu"])
    dev, gpu = (tmp_path / "kernels" / f"clawdspace-{name}" / "kernel.json" for name in ("dev", "gpu"))
    wanted, untouched = dev.read_text(), gpu.stat()
    dev.write_text(wanted.replace("Python 3 (dev)", "Something else"))
    specs.sync(["dev", "gpu"])
    assert dev.read_text() == wanted
    assert gpu.stat().st_ino == untouched.st_ino


@given(names)
def test_every_space_has_a_name_of_its_own_and_lower_case_keeps_the_plain_one(spaces: set[str]) -> None:
    specs = spec_names(spaces)
    assert sorted(specs.values()) == sorted(spaces)
    assert all(name == name.lower() for name in specs)
    for space in spaces:
        if space == space.lower():
            assert specs[f"clawdspace-{space}"] == space
