"""`lorikeet compare`: everybody's answer, whatever becomes of one."""

import csv
import json
from pathlib import Path

import pytest

from lorikeet import errors
from lorikeet.rpc.errors import permission_denied
from tests.lorikeet.fakes import VERSION, FakeServer
from tests.lorikeet.test_cli import run


def test_base_and_adapters_stand_side_by_side(serving: FakeServer) -> None:
    result = run("compare", "Say hello", "math", "sql@stable", "-m", "9")
    assert result.exit_code == 0, result.output
    titles, answers = result.stdout.splitlines()[:2]
    assert [word for word in titles.split() if word.strip("╭╮─")] == ["base", "math", "sql@stable"]
    assert answers.count("Hello world") == 3
    assert "acme/math@3" in result.stdout
    requests = serving.inference.requests
    assert sorted(request.adapter for request in requests) == ["", "math", "sql@stable"]
    assert {(request.prompt, request.sampling.max_tokens) for request in requests} == {
        ("Say hello", 9)
    }


def test_an_error_stays_in_its_column_and_in_the_exit_code(serving: FakeServer) -> None:
    serving.inference.refusals["sql"] = permission_denied("adapters.use", "acme/sql")
    result = run("compare", "Say hello", "math", "sql", "--no-base", "--json")
    assert result.exit_code == 1
    math, sql = json.loads(result.stdout)
    assert (math["text"], math["error"], math["version"]) == ("Hello world", "", VERSION)
    assert (sql["text"], sql["finish_reason"]) == ("", "")
    assert "[PERMISSION_DENIED]" in sql["error"]
    shown = run("compare", "Say hello", "math", "sql")
    assert shown.exit_code == 1
    assert "Hello world" in shown.stdout
    assert "PERMISSION_DENIED" in shown.stdout


def test_text_before_an_error_is_kept(serving: FakeServer) -> None:
    serving.inference.error = errors.UnavailableError("gone", reason="ENGINE_RESTARTING")
    (answer,) = json.loads(run("compare", "Hi", "math", "--no-base", "--json").stdout)
    assert (answer["text"], answer["completion_tokens"]) == ("Hello world", 3)
    assert answer["error"] == "gone [ENGINE_RESTARTING]"


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_file_of_prompts_is_answered_in_its_order_and_written_down(
    serving: FakeServer, tmp_path: Path, suffix: str
) -> None:
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / f"answers{suffix}"
    asked = [f"prompt {number}" for number in range(12)]
    prompts.write_text("\n\n".join(json.dumps({"prompt": prompt, "id": 1}) for prompt in asked))
    arguments = ["--prompts", str(prompts), "--output", str(output), "--chat"]
    result = run("compare", "math", *arguments, "--max-streams", "3")
    assert result.exit_code == 0, result.output
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file)) if suffix == ".csv" else [*map(json.loads, file)]
    assert [(row["prompt"], row["adapter"]) for row in rows] == [
        (prompt, adapter) for prompt in asked for adapter in ("", "math")
    ]
    assert {row["text"] for row in rows} == {"Hello world"}
    assert float(rows[0]["first_token_seconds"]) <= float(rows[0]["seconds"])
    assert {len(request.messages) for request in serving.inference.requests} == {1}
    (base, math) = [line.split()[:2] for line in result.stdout.splitlines()[-2:]]
    assert (base, math) == (["base", "12"], ["math", "12"])


def test_lines_of_text_are_prompts_too_and_stdin_is_one(
    serving: FakeServer, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("first\n\n{second\n")
    run("compare", "math", "--no-base", "--prompts", str(prompts))
    run("compare", "-", "math", "--no-base", input="third\nline")
    asked = [request.prompt for request in serving.inference.requests]
    assert sorted(asked[:2]) == ["first", "{second"]
    assert asked[2:] == ["third\nline"]


@pytest.mark.parametrize(
    ("arguments", "content", "told"),
    [
        (["Hi", "--no-base"], "", "name an adapter"),
        (["Hi", "math", "--output", "x.txt"], "", "must end in .jsonl or .csv"),
        (["math", "--prompts", "p.jsonl"], '{"prompt": "a"}\n{"text": "b"}', "line 2"),
        (["math", "--prompts", "p.jsonl"], "\n{", "line 2: not JSON"),
        (["math", "--prompts", "p.txt"], " \n", "has no prompts"),
        (["math", "--prompts", "absent"], "", "cannot read absent"),
    ],
)
def test_mistakes_are_told_before_anybody_is_asked(
    serving: FakeServer, tmp_path: Path, arguments: list[str], content: str, told: str
) -> None:
    for name in ("p.jsonl", "p.txt"):
        (tmp_path / name).write_text(content)
    result = run("compare", *arguments)
    assert result.exit_code == 1
    assert told in result.stderr
    assert not serving.inference.requests
