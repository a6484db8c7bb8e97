"""Both services as processes, through the SDK and the command line."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lorikeet import Client, Sampling, errors
from lorikeet.cli import app
from lorikeet.cli.serve import publish_state
from lorikeet.local import LocalStack
from lorikeet.streams import GenerationStream
from tests.checkpoints import write_adapter
from tests.lorikeet.checkpoint import MAX_MODEL_LEN, write_checkpoint

MESSAGES = [{"role": "user", "content": "the quick brown fox"}]
STATUS_SECONDS = 5.0


@dataclass(frozen=True)
class Served:
    """A running stack, the keys of its tenants, and PEFT directories made for its model."""

    stack: LocalStack
    keys: dict[str, str]
    adapters: dict[str, Path]

    def client(self, tenant: str = "acme") -> Client:
        return self.stack.client(self.keys[tenant])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("stack")
    model = write_checkpoint(directory / "tiny-llama")
    adapters = {
        name: write_adapter(directory / name, model, rank=rank, seed=rank)
        for name, rank in (("small", 4), ("large", 16))
    }
    arguments = ["--device", "cpu", "--dtype", "float32", "--memory", "64MiB"]
    with LocalStack(
        model,
        "tiny",
        known_as=[str(model)],
        data_dir=directory / "data",
        inference_args=[*arguments, "--max-model-len", str(MAX_MODEL_LEN)],
    ) as stack:
        with stack.admin() as admin:
            keys = {tenant: admin.ensure_tenant(tenant) for tenant in ("acme", "initech")}
            for name, path in adapters.items():
                admin.create_adapter(f"acme/{name}", "tiny")
                admin.push(path, f"acme/{name}", aliases=["stable"])
        yield Served(stack, keys, adapters)


async def test_every_adapter_answers_in_its_own_way(served: Served) -> None:
    async with served.stack.async_client(served.keys["acme"]) as client:
        answers = await asyncio.gather(
            *(
                client.chat(MESSAGES, adapter, max_tokens=16, temperature=0.0, ignore_eos=True)
                for adapter in ("", "small", "large@stable", "acme/large@1")
            )
        )
    assert len({answer.token_ids for answer in answers}) == 3
    assert answers[2] != answers[1]
    assert answers[2].token_ids == answers[3].token_ids
    assert [answer.adapter_version for answer in answers[:2]] == [
        "",
        "tenants/acme/adapters/small/versions/1",
    ]
    assert all(answer.usage.completion_tokens == 16 for answer in answers)


def test_a_stream_is_the_completion_piece_by_piece(served: Served) -> None:
    with served.client() as client:
        completion = client.generate("the quick", "small", max_tokens=12, temperature=0.0)
        stream = client.generate_stream("the quick", "small", max_tokens=12, temperature=0.0)
        assert "".join(chunk.text for chunk in stream) == completion.text
        assert client.detokenize(client.tokenize("the lazy dog")) == "the lazy dog"


def test_completions_and_logprobs_come_from_the_real_engine(served: Served) -> None:
    """Each of n is what its own seed gives, and likelier tokens rank higher."""
    asked: Sampling = {"max_tokens": 8, "seed": 5, "logprobs": 2, "ignore_eos": True}
    thrice: Sampling = {**asked, "n": 3, "prompt_logprobs": 1}
    with served.client() as client:
        one = client.generate("the quick brown fox", "small", **asked)
        three = client.generate("the quick brown fox", "small", **thrice)
        alike = client.generate("the quick brown fox", "small", **thrice)
        prompt = client.tokenize("the quick brown fox", "small", add_special_tokens=True)
    assert [choice.token_ids for choice in three.choices] == [c.token_ids for c in alike.choices]
    assert three.token_ids == one.token_ids
    assert len({choice.token_ids for choice in three.choices}) == 3
    assert [each.token_id for each in three.prompt_logprobs] == prompt[1:]
    assert three.usage.completion_tokens == 24
    for choice in three.choices:
        assert tuple(each.token_id for each in choice.logprobs) == choice.token_ids
        for each in choice.logprobs:
            assert (each.rank == 1) == (each.logprob >= each.top[0][1])
            assert each.top[0][1] >= each.top[1][1]


def test_a_deadline_frees_the_engine_whatever_was_asked(served: Served) -> None:
    endless: Sampling = {"n": 128, "max_tokens": MAX_MODEL_LEN, "ignore_eos": True, "seed": 1}
    with served.client() as client:
        with pytest.raises(errors.DeadlineExceededError):
            client.generate("the quick brown fox", "small", timeout=0.1, **endless)
        _eventually(lambda: _assert_idle(client))


def _assert_idle(client: Client) -> None:
    info = client.server_info()
    assert (info.num_running, info.num_waiting, info.memory.kv_pages) == (0, 0, 0)


def test_what_a_setting_may_not_be_is_named(served: Served) -> None:
    with served.client() as client, pytest.raises(errors.InvalidArgumentError) as caught:
        client.generate("the", logit_bias={10**6: 1.0}, min_p=2.0, logprobs=21, n=0)
    assert {violation.field for violation in caught.value.violations} == {
        "sampling.logit_bias",
        "sampling.min_p",
        "sampling.logprobs",
        "sampling.n",
    }


def test_allow_lists_hold_and_change_at_once(served: Served) -> None:
    with served.stack.admin() as admin, served.client("initech") as client:
        with pytest.raises(errors.PermissionDeniedError):
            client.generate("the", "acme/small", max_tokens=4)
        admin.grant_access("acme/small", "initech")
        _eventually(lambda: client.generate("the", "acme/small", max_tokens=4))
        admin.revoke_access("acme/small", "initech")
        _eventually(lambda: _assert_refused(client, "acme/small"))


def test_adapters_are_loaded_and_unloaded_on_demand(served: Served) -> None:
    with served.client() as client:
        progress = list(client.prefetch(["small", "large"]))
        assert {item.adapter for item in progress if item.done} == {"small", "large"}
        assert {item.rank: item.pages > 0 for item in client.loaded()} == {4: True, 16: True}
        before = client.server_info().memory.adapter_pages
        freed = client.unload("large").freed_pages
        assert 0 < freed == before - client.server_info().memory.adapter_pages


def test_the_command_line_reaches_the_running_stack(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    publish_state(served.stack, served.keys, "acme")
    with served.client() as client:
        expected = client.chat(MESSAGES, "small", max_tokens=8, temperature=0.0).text

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return result.stdout

    question = MESSAGES[0]["content"]
    answer = run("chat", question, "-a", "small", "-m", "8", "--temperature", "0")
    assert answer.startswith(expected)
    assert "pushed acme/small@2" in run("adapters", "push", str(served.adapters["large"]), "small")
    assert "now version 1" in run("adapters", "alias", "set", "small", "stable", "1")
    assert "@2" in run("adapters", "show", "small")
    assert "device" in run("prefetch", "large")
    assert "acme/large@1" in run("loaded")
    assert "baseModels/tiny" in run("info")
    run("tenants", "create", "umbrella")
    assert "umbrella" in run("tenants", "list")
    key = run("keys", "create", "umbrella").strip().partition("=")[2]
    with served.stack.client(key) as client:
        assert client.generate("the", max_tokens=2).usage.completion_tokens == 2


def test_the_checklist_of_a_running_stack(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    publish_state(served.stack, served.keys, "acme")
    model = ["--model", str(served.stack.model), "--base-model", "tiny"]
    arguments = ["doctor", "--json", *model, "--adapter"]
    well = CliRunner().invoke(app, [*arguments, "tiny:small"])
    found = {item["check"]: item["status"] for item in json.loads(well.stdout)}
    where_they_run = {"registry.settings", "inference.settings"}  # which is not here
    assert {name for name, status in found.items() if status != "ok"} == where_they_run
    assert well.exit_code == 0
    ill = CliRunner().invoke(app, [*arguments, "llama:small"])
    failed = [item["check"] for item in json.loads(ill.stdout) if item["status"] == "failed"]
    assert (failed, ill.exit_code) == (["adapter.base_model"], 1)


def test_an_upload_for_another_shape_is_refused_by_name(served: Served, tmp_path: Path) -> None:
    directory = tmp_path / "broken"
    directory.mkdir()
    for file in served.adapters["small"].iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    weights = directory / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    with served.stack.admin() as admin, pytest.raises(errors.InvalidArgumentError) as caught:
        admin.push(directory, "acme/small")
    assert caught.value.violations


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_losing_the_inference_service_gives_a_status(served: Served, number: int) -> None:
    process = served.stack.inference
    assert process is not None
    with served.client() as client:
        stream = _long_stream(client)
        os.kill(process.pid, number)
        began = time.monotonic()
        with pytest.raises(errors.UnavailableError):
            stream.result()
        assert time.monotonic() - began < STATUS_SECONDS
        began = time.monotonic()
        with pytest.raises(errors.UnavailableError):
            client.generate("the")
        assert time.monotonic() - began < STATUS_SECONDS
    process.stop(0)
    served.stack.start_inference()
    with served.client() as client:
        assert client.generate("the", "small", max_tokens=2).usage.completion_tokens == 2


def test_losing_the_registry_hangs_nobody(served: Served) -> None:
    process = served.stack.registry
    assert process is not None
    with served.client() as client, served.stack.admin() as admin:
        stream = _long_stream(client)
        os.kill(process.pid, signal.SIGKILL)
        began = time.monotonic()
        next(stream)  # what runs needs no registry
        stream.close()
        with pytest.raises(errors.UnavailableError):
            admin.list_tenants()
        with contextlib.suppress(errors.UnavailableError):  # or its lease still holds
            client.generate("the", "large", max_tokens=2)
        assert time.monotonic() - began < STATUS_SECONDS
        process.stop(0)
        served.stack.start_registry()
        _eventually(admin.list_tenants)
        _eventually(lambda: client.generate("the", "large", max_tokens=2))


def _long_stream(client: Client) -> GenerationStream:
    """A stream that has begun and will not end by itself within the test."""
    stream = client.generate_stream("the", max_tokens=MAX_MODEL_LEN - 16, ignore_eos=True)
    next(stream)
    return stream


def _assert_refused(client: Client, adapter: str) -> None:
    with pytest.raises(errors.PermissionDeniedError):
        client.generate("the", adapter, max_tokens=1)


def _eventually(attempt: Callable[[], object]) -> None:
    """Repeats what may fail while a change is on its way."""
    deadline = time.monotonic() + STATUS_SECONDS
    while True:
        try:
            attempt()
            return
        except (errors.LorikeetError, pytest.fail.Exception, AssertionError):
            assert time.monotonic() < deadline
            time.sleep(0.05)
