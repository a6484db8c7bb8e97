"""What a shell completes: commands, options, and the names of adapters, without a word of error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lorikeet.cli import app
from lorikeet.rpc.errors import UnavailableError
from tests.lorikeet.fakes import FakeServer

pytestmark = pytest.mark.usefixtures("working_directory")

COMPLETE = """
source {script}
COMP_WORDS=({words})
COMP_CWORD={place}
_lorikeet_completion lorikeet
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def lorikeet(tmp_path: Path) -> Path:
    """The installed command, as a script of this interpreter."""
    command = tmp_path / "bin" / "lorikeet"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nfrom lorikeet.cli import app\n\napp()\n")
    command.chmod(0o755)
    return command


def script_for(shell: str) -> str:
    """What `lorikeet --show-completion` prints in that shell."""
    asked = {"_LORIKEET_COMPLETE": f"source_{shell}"}
    return CliRunner().invoke(app, [], env=asked, prog_name="lorikeet").stdout


def completed(lorikeet: Path, *words: str) -> list[str]:
    """What bash offers for the last of `words`; nothing may be said beside it."""
    script = lorikeet.with_name("completion.bash")
    environment = {
        **os.environ,
        "PATH": f"{lorikeet.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    script.write_text(script_for("bash"))
    quoted = " ".join(f"'{word}'" for word in ("lorikeet", *words))
    ended = subprocess.run(
        ["bash", "-c", COMPLETE.format(script=script, words=quoted, place=len(words))],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stderr == ""
    return ended.stdout.split()


def test_commands_and_options_are_completed(lorikeet: Path) -> None:
    assert completed(lorikeet, "comp") == ["compare"]
    assert "--max-tokens" in completed(lorikeet, "chat", "--max")


def test_adapters_of_the_running_stack_are_completed(serving: FakeServer, lorikeet: Path) -> None:
    assert completed(lorikeet, "generate", "--adapter", "a") == ["a1"]
    assert completed(lorikeet, "adapters", "show", "acme/a") == ["acme/a2"]
    assert completed(lorikeet, "compare", "prompt", "a") == ["a3"]
    assert completed(lorikeet, "unload", "b") == []


def test_without_a_registry_nothing_is_offered_and_nothing_said(lorikeet: Path) -> None:
    assert completed(lorikeet, "generate", "--adapter", "a") == []


def test_a_registry_that_refuses_is_silence(serving: FakeServer, lorikeet: Path) -> None:
    serving.registry.refusal = UnavailableError("no")
    assert completed(lorikeet, "generate", "--adapter", "a") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    script = script_for(shell)
    assert f"_LORIKEET_COMPLETE=complete_{shell}" in script
    assert "lorikeet" in script
