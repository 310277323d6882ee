"""Spaces as containers of a Docker engine.

``engine`` has the verbs, ``config`` what a container is asked to be, ``records`` what the engine's labels say,
``agent_files`` how the agent gets into any image, ``dial`` the stream to it, ``api`` the calls themselves.
"""

from .engine import DockerEngine

__all__ = ["DockerEngine"]
