"""Kernels outside their space: the daemon's ends of what passes between Jupyter clients and the agent."""

from .kernels import Kernels

__all__ = ["Kernels"]
