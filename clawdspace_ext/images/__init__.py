"""The images that spaces on Docker engines are made of, and how they come into being."""

from __future__ import annotations
