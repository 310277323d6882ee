"""Spaces as Jupyter kernels: the provisioner, the kernel specs, and a kernel websocket without delay."""
