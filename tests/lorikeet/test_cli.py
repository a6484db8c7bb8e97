"""The command line: settings, output for people and for programs, and how it fails."""

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lorikeet import errors
from lorikeet.cli import app
from lorikeet.cli.output import format_bytes
from lorikeet.cli.serve import resolve_model
from lorikeet.state import ServeState
from protos.inference_pb2 import SamplingParams, ToolCall
from tests.lorikeet.fakes import FakeServer

EVERY_SETTING = """
    -m 9 --min-tokens 2 --temperature 0.5 --top-p 0.25 --top-k 3 --min-p 0.125 --seed 7 -n 2
    --repetition-penalty 1.5 --presence-penalty -0.5 --frequency-penalty 0.75
    --logit-bias 5=-1.5 --logit-bias 6=2 --stop x --stop y --stop-token-id 4 --ignore-eos
    --include-stop --logprobs 1 --prompt-logprobs 0
"""


pytestmark = pytest.mark.usefixtures("working_directory")


def run(*arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=input)


def test_the_state_file_is_private(serving: FakeServer) -> None:
    assert Path(".lorikeet/serve.json").stat().st_mode & 0o777 == 0o600
    state = ServeState.read()
    assert state is not None
    assert "key" not in repr(state)


def test_without_a_running_stack_the_error_says_what_to_do() -> None:
    result = run("adapters", "list")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: no registry address: start `lorikeet serve`")
    assert "Traceback" not in result.output


def test_an_unreachable_service_is_one_line() -> None:
    result = run("--inference", "127.0.0.1:1", "--api-key", "k", "info")
    assert result.exit_code == 1
    assert "[UNAVAILABLE]" in result.stderr
    assert "`lorikeet serve` starts one" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_commands_find_the_running_stack_and_its_keys(serving: FakeServer) -> None:
    result = run("chat", "--adapter", "math", "--max-tokens", "5", "Hi")
    assert result.exit_code == 0
    assert result.stdout.strip() == "Hello world"
    assert serving.inference.metadata["authorization"] == "Bearer acme-key"


def test_the_administrator_acts_for_tenants_without_a_kept_key(serving: FakeServer) -> None:
    run("--tenant", "globex", "generate", "Hi")
    (request,) = serving.inference.requests
    assert request.tenant == "tenants/globex"
    assert serving.inference.metadata["authorization"] == "Bearer admin-key"


def test_flags_win_over_environment_and_state(
    serving: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORIKEET_API_KEY", "from-environment")
    run("generate", "Hi")
    assert serving.inference.metadata["authorization"] == "Bearer from-environment"
    run("--api-key", "from-flag", "generate", "Hi")
    assert serving.inference.metadata["authorization"] == "Bearer from-flag"


def test_a_conversation_sends_every_turn_before(serving: FakeServer) -> None:
    result = run("chat", "--system", "Be brief", input="one\ntwo\n\n")
    assert result.stdout.count("Hello world") == 2
    roles = [message.role for message in serving.inference.requests[-1].messages]
    assert roles == ["system", "user", "assistant", "user"]


def test_generate_reads_stdin_and_prints_json(serving: FakeServer) -> None:
    completion = json.loads(run("generate", "-", "--json", input="Say hello").stdout)
    assert serving.inference.requests[0].prompt == "Say hello"
    assert completion["text"] == "Hello world"
    assert completion["usage"]["completion_tokens"] == 3


def test_every_sampling_setting_has_an_option(serving: FakeServer) -> None:
    arguments = shlex.split(EVERY_SETTING)
    for command in ("generate", "chat"):
        result = run(command, "Hi", *arguments)
        assert result.exit_code == 0, result.output
        sampling = serving.inference.requests[-1].sampling
        set_fields = {field.name for field, _ in sampling.ListFields()}
        assert set_fields == {*SamplingParams.DESCRIPTOR.fields_by_name}
        assert (sampling.max_tokens, sampling.n, sampling.top_k) == (9, 2, 3)
        assert dict(sampling.logit_bias) == {5: -1.5, 6: 2.0}
        assert (list(sampling.stop), list(sampling.stop_token_ids)) == (["x", "y"], [4])
    run("generate", "Hi")
    sampling = serving.inference.requests[-1].sampling
    assert {field.name for field, _ in sampling.ListFields()} == {"max_tokens"}


def test_chat_with_tools_prints_calls_for_people_and_programs(
    serving: FakeServer, tmp_path: Path
) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text('[{"type": "function", "function": {"name": "add"}}]')
    call = ToolCall(id="c1", name="add", arguments='{"a": 1, "b": "x"}')
    serving.inference.tool_calls = [call]
    serving.inference.tool_call_error = "it has no name"
    output = run("chat", "1+1?", "--tools", str(tools), "--priority", "5").stdout
    assert '→ add(a=1, b="x")' in output
    assert "(not a tool call: it has no name)" in output
    (request,) = serving.inference.requests
    assert [tool.name for tool in request.tools] == ["add"]
    assert request.priority == 5
    told = json.loads(run("chat", "1+1?", "--tools", str(tools), "--json").stdout)
    assert told["tool_calls"] == [{"id": "c1", "name": "add", "arguments": call.arguments}]


def test_in_a_conversation_the_user_answers_for_tools(serving: FakeServer, tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text('[{"name": "now"}]')
    serving.inference.tool_calls = [ToolCall(id="c1", name="now", arguments="{}")]
    run("chat", "--tools", str(tools), input="What time is it?\nnoon\n\n")
    messages = serving.inference.requests[-1].messages
    assert [message.role for message in messages] == ["user", "assistant", "tool"]
    assert (messages[2].content, messages[2].tool_call_id) == ("noon", "c1")


def test_a_tools_file_that_is_none_is_named(serving: FakeServer, tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    for content in ("{", '{"name": "x"}', '[{"nam": "x"}]'):
        tools.write_text(content)
        result = run("chat", "x", "--tools", str(tools))
        assert result.exit_code == 1
        assert "tools.json is not a JSON list of tools" in result.stderr.replace("\n", "")
    assert not serving.inference.requests


def test_completions_are_told_apart(serving: FakeServer) -> None:
    lines = run("generate", "Hi", "-n", "3").stdout.splitlines()
    assert lines[:3] == ["[0] Hello world", "[1] Hello' wor'ld'", "(cut at 3 tokens)"]
    assert run("chat", "-n", "2", input="one\n").exit_code != 0


def test_logprobs_are_a_table(serving: FakeServer) -> None:
    output = run("generate", "Hi", "--logprobs", "2", "--prompt-logprobs", "0").stdout
    assert "logprobs of the prompt" in output
    rows = [line.split() for line in output.splitlines() if line.startswith("'<")]
    assert rows[0] == ["'<7>'", "7", "-1.3863", "25.0%", "2"]
    assert rows[1] == ["'<0>'", "0", "-1.3863", "25.0%", "2", "'<90>'", "50.0%", "'<91>'", "50.0%"]
    assert len(rows) == 4
    completion = json.loads(run("generate", "Hi", "--logprobs", "2", "-n", "2", "--json").stdout)
    assert completion["logprobs"][1]["token_id"] == 1
    assert completion["others"][0]["logprobs"][2]["top"][0][0] == 90


def test_pinned_adapters_are_marked(serving: FakeServer) -> None:
    assert "math@1" in run("pin", "math").stdout
    assert "device, pinned" in run("pin", "math").stdout
    assert "pinned" not in run("unpin", "math").stdout
    assert json.loads(run("pin", "math", "--json").stdout)[0]["pinned"] is True


def test_a_bias_that_is_none_is_named(serving: FakeServer) -> None:
    result = run("generate", "Hi", "--logit-bias", "five")
    assert result.exit_code != 0
    assert "ID=BIAS" in result.output
    assert not serving.inference.requests


def test_push_shows_the_new_version(serving: FakeServer, peft_directory: Path) -> None:
    result = run("adapters", "push", str(peft_directory), "math", "--alias", "stable")
    assert result.exit_code == 0, result.output
    assert "pushed acme/math@3" in result.stdout
    pushed = run("adapters", "push", str(peft_directory), "math", "--json").stdout
    assert json.loads(pushed)["size_bytes"] == 2**33


def test_refusals_name_every_violation(serving: FakeServer, peft_directory: Path) -> None:
    serving.artifacts.refusal = errors.InvalidArgumentError(
        "the artifact is refused",
        reason="ARTIFACT_INVALID",
        violations=[errors.FieldViolation("adapter_config.json: r", "rank 999 is above 256")],
    )
    result = run("adapters", "push", str(peft_directory), "math")
    assert result.exit_code == 1
    assert "error: the artifact is refused [ARTIFACT_INVALID]" in result.stderr
    assert "adapter_config.json: r: rank 999 is above 256" in result.stderr


def test_tables_and_json_show_the_same_adapters(serving: FakeServer) -> None:
    assert "acme/a1" in run("adapters", "list").stdout
    serving.registry.page_tokens.clear()
    listed = json.loads(run("adapters", "list", "--json").stdout)
    assert listed[0]["name"] == "tenants/acme/adapters/a1"
    assert listed[0]["latest_version"] == 2


def test_granting_prints_who_may_use_the_adapter(serving: FakeServer) -> None:
    result = run("adapters", "grant", "math", "initech")
    assert result.stdout.strip() == "acme/math may be used by its owner and globex, initech"
    policy = json.loads(run("adapters", "revoke", "math", "initech", "--json").stdout)
    assert policy["allowed_tenants"] == ["tenants/globex"]


def test_runtime_commands_show_residency(serving: FakeServer) -> None:
    assert "acme/math@3" in run("loaded").stdout
    assert "device" in run("prefetch", "math").stdout
    assert "freed 2 pages of math, which is now on tier disk" in run("unload", "math").stdout
    info = json.loads(run("info", "--json").stdout)
    assert info["base_weight_bytes"] == 5_000_000_000


def test_requests_are_listed_with_their_progress(serving: FakeServer) -> None:
    header, running, waiting = run("requests").stdout.splitlines()
    assert header.split()[:2] == ["age", "tenant"]
    for part in ("2.5 s", "acme/app", "acme/math@3", "running", "34", "500 ms", "r-1"):
        assert part in running
    for part in ("0.2 s", "(base model)", "waiting", " - ", "r-2"):
        assert part in waiting
    first, _ = json.loads(run("requests", "--json").stdout)
    assert (first["completion_tokens"], first["age"]) == (34, "2.500s")


def test_the_tenant_of_a_key_is_asked_for_when_none_is_given(server: FakeServer) -> None:
    result = run("--registry", server.address, "--api-key", "k", "adapters", "list")
    assert "acme/a1" in result.stdout


def test_serving_a_model_that_is_not_there_says_so() -> None:
    result = run("serve", "--model", "/no/such/directory")
    assert result.exit_code == 1
    assert "neither a directory nor a Hugging Face id" in result.stderr


def test_a_model_directory_is_itself(tmp_path: Path) -> None:
    assert resolve_model(str(tmp_path), "main") == tmp_path


def test_every_command_has_help() -> None:
    for command in ("serve", "generate", "chat", "prefetch", "loaded", "requests", "info"):
        assert run(command, "--help").exit_code == 0


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1536, "1.5 KiB"), (5 * 2**30, "5.0 GiB"), (2**51, "2048.0 TiB")],
)
def test_bytes_are_readable(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_drain_says_when_nothing_runs_any_more(serving: FakeServer) -> None:
    result = run("drain")
    assert result.exit_code == 0
    assert result.stdout.startswith("drained: no request runs")
