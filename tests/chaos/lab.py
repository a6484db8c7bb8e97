"""A whole Lorikeet as processes, with tenants and adapters whose every answer is known."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from lorikeet import AsyncClient, Completion
from lorikeet.local import LocalStack
from tests.checkpoints import write_adapter
from tests.lorikeet.checkpoint import write_checkpoint
from tests.servers.processes import free_port

BASE_MODEL = "tiny"
MAX_MODEL_LEN = 1024
NUM_TOKENS = 64  # of a checked answer
PROMPTS = ("the quick brown fox", "pack my box", "jumps over the lazy dog with five dozen jugs")
TENANTS = ("acme", "globex", "initech")
ENGINE_ARGUMENTS = (
    *("--device", "cpu", "--dtype", "float32", "--memory", "16MiB", "--num-threads", "1"),
    *("--max-model-len", str(MAX_MODEL_LEN), "--max-num-seqs", "16"),
)


@dataclass(frozen=True)
class Files:
    """A checkpoint and different PEFT adapters for it, by name."""

    model: Path
    adapters: Mapping[str, Path]


def write_files(directory: Path) -> Files:
    """Two adapters for each tenant; takes seconds."""
    model = write_checkpoint(directory / "model")
    names = [f"{tenant}-{number}" for tenant in TENANTS for number in (1, 2)]
    adapters = {
        name: write_adapter(directory / name, model, rank=4 + 4 * (seed % 3), seed=seed)
        for seed, name in enumerate(names, start=1)
    }
    return Files(model, adapters)


@dataclass(frozen=True)
class Question:
    """One prompt to one adapter on behalf of one tenant; `adapter` may name a version or alias."""

    tenant: str
    adapter: str
    prompt: str


@dataclass
class Lab:
    """Every tenant has `helper`, with two versions that differ and the alias `stable`.

    `answers` has the tokens of each version, and of the base model under "", to each prompt.
    """

    stack: LocalStack
    files: Files
    metrics_port: int
    keys: dict[str, str] = field(default_factory=dict)
    answers: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)

    @property
    def front_end(self) -> psutil.Process:
        assert self.stack.inference is not None
        return psutil.Process(self.stack.inference.pid)

    async def signal_engine(self, number: signal.Signals) -> None:
        """To the one that runs, or as soon as there is one again after the fault before."""
        while True:
            for child in self.front_end.children():
                with suppress(psutil.NoSuchProcess):
                    if "inference_service.engine" in child.cmdline():
                        child.send_signal(number)
                        return
            await asyncio.sleep(0.1)

    def unhandled_errors(self) -> list[str]:
        """What the services that run now have logged of exceptions nobody expected."""
        processes = (self.stack.registry, self.stack.inference)
        logs = [process.log_path.read_text() for process in processes if process is not None]
        return [log[start : start + 6000] for log in logs if (start := log.find("unhandled")) >= 0]

    def client(self, tenant: str) -> AsyncClient:
        return self.stack.async_client(self.keys[tenant])

    def admin(self) -> AsyncClient:
        """A client of the inference service that sees every tenant's."""
        return self.stack.async_client(self.stack.credentials["admin"])

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[dict[str, AsyncClient]]:
        """One for each tenant."""
        made = {tenant: self.client(tenant) for tenant in TENANTS}
        try:
            yield made
        finally:
            await asyncio.gather(*(client.close() for client in made.values()))

    def questions(self) -> list[Question]:
        """All there are: the base model's are the same for every tenant."""
        adapters = ("", "helper@1", "helper@2", "helper@stable")
        return [
            Question(tenant, adapter, prompt)
            for tenant in TENANTS
            for adapter in adapters
            for prompt in PROMPTS
        ]

    def is_right(self, completion: Completion, prompt: str) -> bool:
        """Whether this is what the version that answered says when it is alone."""
        return self.answers[completion.adapter_version, prompt] == completion.token_ids

    def whose(self, completion: Completion, prompt: str) -> str:
        """Which version would have said this; empty if none."""
        for (version, asked), answer in self.answers.items():
            if asked == prompt and answer == completion.token_ids:
                return version or "the base model"
        return ""


async def ask(client: AsyncClient, question: Question, **sampling: int) -> Completion:
    """A greedy answer of a known length."""
    return await client.generate(
        question.prompt,
        question.adapter,
        **{"max_tokens": NUM_TOKENS, **sampling},  # type: ignore[arg-type]
        temperature=0.0,
        ignore_eos=True,
        timeout=120.0,
    )


@asynccontextmanager
async def running_lab(
    files: Files, data_dir: Path, arguments: Sequence[str] = ()
) -> AsyncIterator[Lab]:
    """Started, filled, and each answer asked for once, alone."""
    metrics_port = free_port()
    stack = LocalStack(
        files.model,
        BASE_MODEL,
        known_as=[str(files.model)],
        data_dir=data_dir,
        inference_args=[
            *ENGINE_ARGUMENTS,
            *("--metrics-listen", f"127.0.0.1:{metrics_port}"),
            *arguments,
        ],
    )
    async with stack:
        lab = Lab(stack, files, metrics_port)
        await asyncio.to_thread(_fill, lab)
        await _learn_answers(lab)
        yield lab


def _fill(lab: Lab) -> None:
    with lab.stack.admin() as admin:
        for tenant in TENANTS:
            lab.keys[tenant] = admin.ensure_tenant(tenant)
            admin.create_adapter(f"{tenant}/helper", BASE_MODEL)
            for number in (1, 2):
                path = lab.files.adapters[f"{tenant}-{number}"]
                admin.push(path, f"{tenant}/helper", aliases=["stable"])


async def _learn_answers(lab: Lab) -> None:
    async with lab.clients() as clients:
        for question in lab.questions():
            completion = await ask(clients[question.tenant], question)
            key = (completion.adapter_version, question.prompt)
            assert lab.answers.setdefault(key, completion.token_ids) == completion.token_ids
    distinct = {(prompt, answer) for (_, prompt), answer in lab.answers.items()}
    assert len(distinct) == len(lab.answers), "two adapters answer alike: nothing could be told"
