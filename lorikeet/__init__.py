"""Lorikeet's SDK: stream generations from any adapter, and administer the registry.

    with Client("127.0.0.1:50052", api_key=key) as client:
        for chunk in client.generate_stream("Once upon a time", adapter="math"):
            print(chunk.text, end="")

Over TLS the target is "grpcs://host:port". With `credentials=tls_credentials(ca, cert, key)` a
client trusts a private authority and shows a certificate.

Clients: Client, AsyncClient (inference); AdminClient, AsyncAdminClient (registry).
"""

from lorikeet.admin import AdminClient, AsyncAdminClient
from lorikeet.client import AsyncClient, Client
from lorikeet.completion import Choice, Chunk, Completion, Start, TokenLogprob, Usage
from lorikeet.conversation import ToolCall
from lorikeet.generation import Asked, AskedInChat, Sampling
from lorikeet.operations.access import grant
from lorikeet.rpc import errors
from lorikeet.rpc.errors import LorikeetError
from lorikeet.rpc.tls import channel_credentials as tls_credentials
from lorikeet.streams import AsyncGenerationStream, GenerationStream

__all__ = [
    "AdminClient",
    "Asked",
    "AskedInChat",
    "AsyncAdminClient",
    "AsyncClient",
    "AsyncGenerationStream",
    "Choice",
    "Chunk",
    "Client",
    "Completion",
    "GenerationStream",
    "LorikeetError",
    "Sampling",
    "Start",
    "TokenLogprob",
    "ToolCall",
    "Usage",
    "errors",
    "grant",
    "tls_credentials",
]
