"""Commands that become a Jupyter server."""

from __future__ import annotations

import importlib.util
import os
import sys

import click

from ..daemon_process import ensure_daemon
from ..errors import Unavailable
from .output import note

#: Who names the daemon's socket sees to the daemon as well, as a unit of systemd does.
_DAEMON_ELSEWHERE = "--ClawdspaceApp.socket_path"

_PASS_ON = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}


@click.command(context_settings=_PASS_ON, short_help="Serve the API and a workbench where all code runs in spaces.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 is every one.")
@click.option("-p", "--port", type=int, envvar="PORT", default=7777, show_default=True, help="Port, else $PORT.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(host: str, port: int, arguments: tuple[str, ...]) -> None:
    """Serve the REST API and, where it is installed, JupyterLab; every kernel is in a space.

    $API_KEY is the token to get in; without it a new one is made and shown.  Named keys (clawdspace keys) open the
    spaces API only.  What follows is passed on to 'jupyter server', for instance --ServerApp.certfile=FILE.
    """
    from .. import serve as server

    if not any(word.startswith(_DAEMON_ELSEWHERE) for word in arguments):
        ensure_daemon()
    env, token = server.environment(os.environ)
    shown = "$API_KEY" if os.environ.get("API_KEY") else token
    click.echo(f"serving on http://{host}:{port}/  token: {shown}")
    if host in ("127.0.0.1", "localhost", "::1"):
        note("only this machine can reach it; for others: --host 0.0.0.0, on a network you trust or with a certificate")
    if "IDLE_TIMEOUT_MS" in os.environ:
        note("note: IDLE_TIMEOUT_MS has no effect yet: spaces sleep when they are told to")
    sys.stdout.flush()
    # An option given twice is an error to Jupyter, so nothing passed on can take back what makes this server safe.
    server.replace_process([sys.executable, "-m", "jupyter_server", *server.arguments(host, port), *arguments], env)


@click.command(context_settings=_PASS_ON, short_help="Start JupyterLab with spaces in it.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab(arguments: tuple[str, ...]) -> None:
    """Start JupyterLab in this folder, with the extension enabled.  Arguments are passed on to 'jupyter lab'."""
    from .. import serve as server

    if importlib.util.find_spec("jupyterlab") is None:
        raise Unavailable("JupyterLab is not installed", remedy="pip install 'clawdspace[lab]'")
    ensure_daemon()
    enabled = "--ServerApp.jpserver_extensions={'clawdspace_ext': True}"
    server.replace_process([sys.executable, "-m", "jupyterlab", enabled, *arguments])
