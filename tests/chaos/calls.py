"""One call from its first message to its one end, whatever that is."""

import asyncio
from collections import Counter
from dataclasses import dataclass

from grpc import aio

from lorikeet.rpc.errors import LorikeetError, from_rpc_error
from protos import inference_pb2 as pb
from tests.chaos.lab import Lab, Question
from tests.inference.world import User

_EOF: object = aio.EOF  # type: ignore[attr-defined]  # not in the stubs
HUNG_SECONDS = 60.0  # without a message; far beyond every limit of the services
OK = "OK"
HUNG = "hung"
UNFINISHED = "OK without `complete`"


@dataclass(frozen=True)
class Outcome:
    """`end` is OK, the reason of a status, or what no call may end with."""

    question: Question
    end: str
    error: LorikeetError | None = None
    has_started: bool = False
    version: str = ""
    token_ids: tuple[int, ...] = ()

    def is_right(self, lab: Lab) -> bool:
        """Whether all that came is what the version that answered says when it is alone."""
        answer = lab.answers.get((self.version, self.question.prompt), ())
        return self.token_ids == answer[: len(self.token_ids)]

    def is_anothers(self, lab: Lab) -> bool:
        """Whether some of what came is what a version of another tenant says, and not its own."""
        if self.is_right(lab):
            return False
        return any(
            answer[: len(self.token_ids)] == self.token_ids
            for (version, _), answer in lab.answers.items()
            if version and not version.startswith(f"tenants/{self.question.tenant}/")
        )


async def call_once(user: User, question: Question, max_tokens: int) -> Outcome:
    """Greedy. AssertionError for messages that are not a start, chunks, and one complete."""
    sampling = pb.SamplingParams(temperature=0, ignore_eos=True, max_tokens=max_tokens)
    request = pb.GenerateRequest(
        adapter=question.adapter, prompt=question.prompt, sampling=sampling
    )
    call = user.call("Generate", request, timeout=None)
    kinds: list[str] = []
    token_ids: list[int] = []
    version = ""

    def outcome(end: str, error: LorikeetError | None = None) -> Outcome:
        return Outcome(question, end, error, bool(kinds), version, tuple(token_ids))

    try:
        while (message := await asyncio.wait_for(call.read(), HUNG_SECONDS)) is not _EOF:
            kinds.append(message.WhichOneof("event"))
            version = version or message.start.adapter_version
            token_ids += message.chunk.token_ids
        error = None
    except TimeoutError:
        call.cancel()
        return outcome(HUNG)
    except aio.AioRpcError as failed:
        error = from_rpc_error(failed)
    _check_order(kinds, is_whole=error is None)
    if error is not None:
        return outcome(error.reason, error)
    return outcome(OK if len(token_ids) == max_tokens else UNFINISHED)


def _check_order(kinds: list[str], *, is_whole: bool) -> None:
    """One end: a `complete` and status OK, or no `complete` and another status."""
    assert kinds[:1] in (["start"], []), kinds
    assert kinds.count("start") == len(kinds[:1]), kinds
    assert kinds.count("complete") == is_whole, kinds
    assert not is_whole or kinds[-1] == "complete", kinds


def summary(outcomes: list[Outcome]) -> str:
    """How many ended how."""
    ends = Counter(outcome.end for outcome in outcomes)
    return ", ".join(f"{count} {end}" for end, count in ends.most_common())
