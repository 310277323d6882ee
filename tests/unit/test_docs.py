"""What can be configured is written down."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from traitlets.config import Configurable

from clawdspace_ext.app import ClawdspaceApp
from clawdspace_kernels.provisioner import SpaceProvisioner

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/configuration.md").read_text()


def own_traits(kind: type[Configurable]) -> set[str]:
    """Return the traits that can be configured and that the class itself adds."""
    return {name for name in kind.class_own_traits(config=True) if name in vars(kind)}


@pytest.mark.parametrize("kind", [ClawdspaceApp, SpaceProvisioner])
def test_every_trait_is_documented_and_every_documented_trait_exists(kind: type[Configurable]) -> None:
    documented = set(re.findall(rf"`{kind.__name__}\.(\w+)`", PAGE))

    assert documented == own_traits(kind)
    assert documented


def test_every_environment_variable_is_documented() -> None:
    sources = [*ROOT.glob("clawdspace_ext/**/*.py"), *ROOT.glob("kernels/**/*.py")]
    read = {
        name for path in sources for name in re.findall(r'environ(?:\.get\(|\[)"(CLAWDSPACE_\w+)"', path.read_text())
    }

    assert read
    assert read <= set(re.findall(r"`(CLAWDSPACE_\w+)`", PAGE))


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
