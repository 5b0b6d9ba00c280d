"""Verbs load when they are used: the overview, the version and a misspelt verb need nothing heavy."""

import subprocess
import sys

import pytest

from driftlaw.cli import app

HEAVY = {"torch", "pandas", "scipy", "sklearn", "matplotlib", "pyarrow", "diffusers"}
SCRIPT = """
import sys
from driftlaw.cli import app
sys.argv = ["driftlaw", *sys.argv[1:]]
try:
    app.main()
except SystemExit as stopped:
    print("exit", stopped.code or 0)
print("modules", *sorted({name.partition(".")[0] for name in sys.modules}))
print("verbs", *sorted(name.rpartition(".")[2] for name in sys.modules if name.startswith("driftlaw.cli.verbs.")))
"""


def start(*arguments):
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)
    *text, code, modules, verbs = done.stdout.splitlines()
    return "\n".join(text), done.stderr, int(code.split()[1]), set(modules.split()[1:]), verbs.split()[1:]


@pytest.mark.parametrize(
    ("arguments", "code", "allowed"),
    [(["--help"], 0, set()), ([], 2, set()), (["--version"], 0, set()), (["frobnicate"], 2, set())],
)
def test_nothing_heavy_is_loaded_before_a_verb_needs_it(arguments, code, allowed):
    text, errors, exit_code, modules, verbs = start(*arguments)
    assert exit_code in ({0, 2} if not arguments else {code})
    assert modules & HEAVY == allowed
    assert verbs == []
    assert text or errors


def test_a_verb_loads_itself_alone():
    text, _, code, _, verbs = start("data", "--help")
    assert code == 0
    assert "fetch" in text
    assert verbs == ["data"]


def test_the_overview_lists_every_verb_with_its_example(capsys):
    text, _, _, _, _ = start("--help")
    for name, verb in app.VERBS.items():
        assert name in text
        assert verb.panel in text


@pytest.mark.parametrize("name", app.VERBS)
def test_every_verb_of_the_overview_exists(name):
    command = app.load(name)
    assert command.help
    assert getattr(command, "name", name) == name or hasattr(command, "commands")


def test_a_misspelt_verb_is_refused():
    _, errors, code, _, _ = start("swep")
    assert code == 2
    assert "swep" in errors
