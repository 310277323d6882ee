"""Commands on this machine."""

from __future__ import annotations

import click

from ..client import SpacesClient
from ..daemon_process import ensure_daemon
from .output import print_json, print_table, printable


@click.command(short_help="Tell about this machine and its engines.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def system(as_json: bool) -> None:
    """Tell what this machine has, how full it is, and which engines run spaces on it."""
    client = SpacesClient(ensure_daemon())
    facts = client.system()
    if as_json:
        print_json(facts)
        return
    memory, disk = facts["memory"], facts["disk"]
    lines = {
        "host": f"{facts['hostname']} ({facts['platform']}, {facts['arch']}), up {facts['uptime']}",
        "cpus": f"{facts['cpus']}, load {' '.join(str(load) for load in facts['loadAverage'])}",
        "memory": f"{memory['used']} of {memory['total']} used ({memory['percentage']})",
        "disk": f"{disk['used']} of {disk['total']} used ({disk['percentage']})",
    }
    for engine in client.request("GET", "/api/system/capabilities")["engines"]:
        limits = f", cannot enforce {', '.join(engine['notEnforced'])}" if engine["notEnforced"] else ""
        lines[engine["name"]] = f"version {engine['version']}, spaces of {engine['defaultImage']}{limits}"
    for name, text in lines.items():
        click.echo(f"{name:<11} {printable(text)}")


@click.command(short_help="Check what spaces need here.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(as_json: bool) -> None:
    """Check what clawdspace needs, and say what to do where something is missing.  Exit code 1 if anything is wrong."""
    from ..doctor import Verdict, examine

    findings = examine()
    if as_json:
        print_json({"findings": [finding._asdict() for finding in findings]})
    else:
        print_table(("", "", ""), ((f.verdict, f.subject, f.detail) for f in findings), empty="")
        for finding in findings:
            if finding.remedy:
                click.echo(f"{finding.subject}: {printable(finding.remedy)}")
    if any(finding.verdict is Verdict.WRONG for finding in findings):
        raise click.exceptions.Exit(1)
