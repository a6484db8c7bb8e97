"""A child engine that answers every request with bytes that are no reply."""

import sys

from inference_service.engine.__main__ import Channel
from inference_service.engine.request import Submit
from inference_service.engine.self_report import EngineInfo

INFO = EngineInfo(
    device="none",
    dtype="none",
    max_model_len=100,
    max_lora_rank=1,
    max_num_seqs=1,
    max_num_batched_tokens=1,
    vocab_size=100,
    base_weight_bytes=0,
    block_tokens=16,
)


def main() -> None:
    channel = Channel(endpoint=sys.argv[1], parent=int(sys.argv[2]))
    channel.send(INFO)
    while not isinstance(channel.receive(0.1), Submit):
        pass
    channel.replies.send(b"\xc1 not msgpack")
    while True:  # it lives on, and would say nothing more
        channel.receive(0.1)


if __name__ == "__main__":
    main()
