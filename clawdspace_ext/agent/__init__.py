"""The program inside every space.

Standard library only, Python 3.8 or newer, and never an import from the package around it: these files are mounted
read-only at ``/run/clawdspace/agent`` and imported there as ``agent``.  The daemon uses two of them as well, because
both ends speak the same protocols: ``mux`` (the link) and ``zmtp`` (kernels).
"""
