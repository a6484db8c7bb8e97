"""What a soak asks for: adapters that new versions replace, and requests drawn at random."""

import random
from dataclasses import dataclass
from pathlib import Path

from benchmarks.synthetic import write_adapter
from inference_service.engine.request import SamplingOptions, Submit
from inference_service.models.families import read_spec

NUM_TENANTS = 8


@dataclass(frozen=True)
class Adapter:
    """One version of an adapter; its digest says which."""

    index: int
    version: int
    path: Path

    @property
    def digest(self) -> str:
        return f"{self.index}@{self.version}"


class Adapters:
    """The current version of each adapter, and the files of all."""

    def __init__(
        self, root: Path, model_path: Path, num_adapters: int, choose: random.Random
    ) -> None:
        self._root, self._spec, self._choose = root, read_spec(model_path), choose
        self.current = [self._write(index, 1) for index in range(num_adapters)]
        self.paths = {adapter.digest: adapter.path for adapter in self.current}

    def replace(self, index: int) -> tuple[Adapter, Adapter]:
        """Writes a new version; returns the old one and it."""
        old = self.current[index]
        new = self.current[index] = self._write(index, old.version + 1)
        self.paths[new.digest] = new.path
        return old, new

    def _write(self, index: int, version: int) -> Adapter:
        path = self._root / f"{index}-{version}"
        rank = self._choose.randint(1, 128)
        seed = 1000 * index + version
        return Adapter(index, version, write_adapter(path, self._spec, rank, seed))


def draw_request(number: int, adapters: Adapters, choose: random.Random) -> Submit:
    """Of any tenant; prompts of one tenant begin alike, stop tokens end many answers early."""
    tenant = choose.randrange(NUM_TENANTS)
    # Zipf over adapters; one request in eight is for the base model.
    rank = min(int(choose.paretovariate(0.8)), len(adapters.current)) - 1
    digest = "" if choose.random() < 0.125 else adapters.current[rank].digest
    system = [2 + (5 * tenant + i) % 90 for i in range(choose.choice([0, 16, 35]))]
    question = [choose.randint(2, 96) for _ in range(choose.randint(1, 40))]
    stops = (*range(2 + 8 * choose.randrange(4), 34),)  # of 97 tokens, so many end it
    max_tokens = choose.randint(1, 24)
    sampling = SamplingOptions(temperature=0.0, max_tokens=max_tokens, stop_token_ids=stops)
    return Submit(number, system + question, sampling, digest, f"tenant-{tenant}")
