"""The REST API and its websockets: one table of routes, served on the daemon's socket and by a Jupyter server."""
