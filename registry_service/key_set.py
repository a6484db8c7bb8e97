"""The token issuer's public keys, from a file or from its https address; never older than told."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jwt
import urllib3
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

logger = logging.getLogger(__name__)

MAX_KEY_SET_BYTES = 256 * 1024
_MAX_KEYS = 100
_MIN_RSA_BITS = 2048
_LIFETIME_SECONDS = 300.0  # after this the keys are asked for again
_MAX_AGE_SECONDS = 3600.0  # after this they are not believed, if the issuer does not answer
_MIN_INTERVAL_SECONDS = 10.0  # between two attempts, whoever asks with whatever key id


@dataclass(frozen=True)
class IssuerKey:
    """`algorithm` is the only one this key is for; empty where its kind decides."""

    key_id: str
    algorithm: str
    public_key: Any


Keys = Mapping[str, IssuerKey]


class KeySetError(ValueError):
    """The issuer's keys cannot be read; the message says what is wrong and where."""


class KeySet(Protocol):
    """Where the issuer's keys are found."""

    async def find(self, key_id: str | None) -> IssuerKey | None:
        """The key with this id; without one, the only key there is; None when there is none."""
        ...

    async def close(self) -> None: ...


def parse_key_set(content: bytes, source: str) -> Keys:
    """Key id to public key; what is not for signatures, not public or too weak is left out."""
    if len(content) > MAX_KEY_SET_BYTES:
        raise KeySetError(f"{source} has more than {MAX_KEY_SET_BYTES} bytes")
    try:
        entries = list(json.loads(content)["keys"])[:_MAX_KEYS]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise KeySetError(f"{source} is no key set: {type(error).__name__}") from error
    keys = filter(None, map(_issuer_key, entries))
    usable = {key.key_id: key for key in keys}
    if not usable:
        raise KeySetError(f"{source} has no usable public key")
    return usable


def _issuer_key(entry: Any) -> IssuerKey | None:
    """Symmetric keys are never among them: whoever can read the set could sign."""
    if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    is_for_signatures = entry.get("use", "sig") == "sig" and (
        "verify" in entry.get("key_ops", ["verify"])
    )
    if not is_for_signatures or "d" in entry:
        return None
    try:
        public_key = jwt.PyJWK(entry).key
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        logger.warning("a key of the issuer is left out: %s", type(error).__name__)
        return None
    if isinstance(public_key, RSAPublicKey) and public_key.key_size < _MIN_RSA_BITS:
        logger.warning("a key of the issuer is left out: it has %d bits", public_key.key_size)
        return None
    return IssuerKey(str(entry.get("kid", "")), str(entry.get("alg", "")), public_key)


def _choose(keys: Keys, key_id: str | None) -> IssuerKey | None:
    if key_id is not None:
        return keys.get(key_id)
    return next(iter(keys.values())) if len(keys) == 1 else None


class FileKeySet:
    """Reads the file again when it has changed; what cannot be used changes nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._current_stamp()
        self._keys = self._read()

    async def find(self, key_id: str | None) -> IssuerKey | None:
        stamp = self._current_stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._keys = await asyncio.to_thread(self._read)
            except KeySetError as error:
                logger.error("the new key set is not used: %s", error)
        return _choose(self._keys, key_id)

    async def close(self) -> None:
        return None

    def _read(self) -> Keys:
        try:
            with self._path.open("rb") as file:
                return parse_key_set(file.read(MAX_KEY_SET_BYTES + 1), str(self._path))
        except OSError as error:
            raise KeySetError(f"{self._path} cannot be read: {error.strerror}") from error

    def _current_stamp(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


class UrlKeySet:
    """Keeps what the issuer published; one fetch at a time, on a thread, and not too often.

    A known key is used at once, and refreshed behind it once it is old. An unknown key id waits
    for a fetch, if one may be made. Use it from one event loop.
    """

    def __init__(
        self,
        url: str,
        ca: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        fetch_seconds: float = 5.0,
    ) -> None:
        if not url.startswith("https://"):
            raise KeySetError(f"{url} is not an https address: keys in plaintext prove nothing")
        self._url = url
        self._clock = clock
        self._fetch_seconds = fetch_seconds
        self._pool = urllib3.PoolManager(
            cert_reqs="CERT_REQUIRED", ca_certs=str(ca) if ca else None, retries=False
        )
        self._keys: Keys = {}
        self._fetched = self._attempted = -float("inf")
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None) -> IssuerKey | None:
        fetch = self._fetch_if(self._clock() - self._fetched > _LIFETIME_SECONDS)
        if self._known(key_id) is None:
            fetch = fetch or self._fetch_if(True)
            if fetch is not None:
                await self._wait_for(fetch)
        return self._known(key_id)

    async def close(self) -> None:
        """Waits for a fetch that runs: it is bounded, and a thread cannot be stopped."""
        if self._fetching is not None:
            await self._wait_for(self._fetching)
        self._pool.clear()

    async def _wait_for(self, fetch: "asyncio.Task[None]") -> None:
        """The bound of a fetch is per read of its headers: nobody waits for a second one."""
        await asyncio.wait([fetch], timeout=2 * self._fetch_seconds)

    def _known(self, key_id: str | None) -> IssuerKey | None:
        if self._clock() - self._fetched > _MAX_AGE_SECONDS:
            return None
        return _choose(self._keys, key_id)

    def _fetch_if(self, wanted: bool) -> "asyncio.Task[None] | None":
        """The fetch that runs, or a new one if it is wanted and not too soon."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        if not wanted or self._clock() - self._attempted < _MIN_INTERVAL_SECONDS:
            return None
        self._attempted = self._clock()
        self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            self._keys = parse_key_set(await asyncio.to_thread(self._download), self._url)
        except (KeySetError, urllib3.exceptions.HTTPError, OSError) as error:
            age = self._clock() - self._fetched
            logger.error("the issuer's keys cannot be fetched, age %.0f s: %s", age, error)
        else:
            self._fetched = self._clock()

    def _download(self) -> bytes:
        """At most so many bytes in so many seconds, however slowly they come."""
        deadline = time.monotonic() + self._fetch_seconds
        timeout = urllib3.Timeout(total=self._fetch_seconds)
        response = self._pool.request(
            "GET", self._url, timeout=timeout, redirect=False, preload_content=False
        )
        try:
            if response.status != 200:
                raise KeySetError(f"{self._url} answered {response.status}")
            content = b""
            while chunk := response.read1(16 * 1024):
                content += chunk
                if len(content) > MAX_KEY_SET_BYTES or time.monotonic() > deadline:
                    raise KeySetError(f"{self._url} sends too much or too slowly")
            return content
        finally:
            response.close()
