"""Build the images that spaces are made of, from a checkout: the same as ``clawdspace images build``."""

from __future__ import annotations

import sys

from clawdspace_ext.cli import main

if __name__ == "__main__":
    main(["images", "build", *sys.argv[1:]], prog_name="clawdspace")
