"""Importing driftlaw is cheap, and every public name resolves."""

import subprocess
import sys

import driftlaw

HEAVY = ("matplotlib", "typer", "rich", "diffusers", "sklearn", "ray", "jinja2", "playwright", "driftlaw.cli")


def test_import_loads_no_plotting_cli_or_learning_code():
    code = f"import sys, driftlaw; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_every_public_name_resolves():
    for name in driftlaw.__all__:
        assert getattr(driftlaw, name) is not None
