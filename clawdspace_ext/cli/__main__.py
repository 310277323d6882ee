"""``python -m clawdspace_ext.cli`` is ``clawdspace``."""

from . import main

main(prog_name="clawdspace")
