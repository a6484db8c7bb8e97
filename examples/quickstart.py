"""A first stream, from the directory in which `make serve` or `lorikeet serve` runs."""

from lorikeet import Client
from lorikeet.state import ServeState

state = ServeState.read()
assert state, "start `make serve` first"
with Client(state.inference, api_key=state.tenant_keys[state.default_tenant]) as client:
    for chunk in client.generate_stream("Once upon a time", max_tokens=64):
        print(chunk.text, end="", flush=True)
