"""A token issuer for tests: keys, tokens, and its key set as a file or over https."""

import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.certificates import Pair

ISSUER = "https://issuer.example"
AUDIENCE = "lorikeet"


@dataclass
class Issuer:
    """Signs tokens; `keys` are what it publishes."""

    keys: dict[str, Any] = field(default_factory=dict)

    def add(self, key_id: str, *, elliptic: bool = False) -> Any:
        """A new signing key, published under this id."""
        if elliptic:
            self.keys[key_id] = ec.generate_private_key(ec.SECP256R1())
        else:
            self.keys[key_id] = rsa.generate_private_key(65537, 2048)
        return self.keys[key_id]

    def key_set(self) -> dict[str, Any]:
        return {"keys": [self._entry(key_id, key) for key_id, key in self.keys.items()]}

    def write(self, path: Path) -> None:
        staged = path.with_suffix(".new")
        staged.write_text(json.dumps(self.key_set()))
        staged.replace(path)

    def token(self, key_id: str, subject: str = "alice", **changes: Any) -> str:
        """A good token, but for `changes`: a claim that is None is left out."""
        key = changes.pop("key", None) or self.keys[key_id]
        algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        algorithm = changes.pop("algorithm", algorithm)
        header = {"kid": key_id, **changes.pop("header", {})}
        return jwt.encode(self.claims(subject, **changes), key, algorithm, headers=header)

    @staticmethod
    def claims(subject: str = "alice", **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        good = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "exp": now + 600, "iat": now}
        return {k: v for k, v in {**good, **changes}.items() if v is not None}

    @staticmethod
    def _entry(key_id: str, key: Any) -> dict[str, Any]:
        kind = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
        return {**json.loads(kind.to_jwk(key.public_key())), "kid": key_id, "use": "sig"}


class KeyServer:
    """The issuer's https address. `status` and `body` are what it answers instead of the keys.

    `pause` is the time between bytes, in seconds.
    """

    def __init__(self, pair: Pair, issuer: Issuer) -> None:
        self.num_requests = 0
        self.status = 200
        self.pause = 0.0
        self.body: bytes | None = None
        self._issuer = issuer
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"https://localhost:{self._server.server_port}/keys"

    def answer(self) -> bytes:
        if self.body is not None:
            return self.body
        return json.dumps(self._issuer.key_set()).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.num_requests += 1
                self.send_response(outer.status)
                self.end_headers()
                try:
                    for byte in outer.answer() if outer.pause else ():
                        self.wfile.write(bytes([byte]))
                        time.sleep(outer.pause)
                    self.wfile.write(b"" if outer.pause else outer.answer())
                except OSError:  # who asked has had enough
                    return

            def log_message(self, *arguments: Any) -> None:
                """Silent."""

        return Handler
