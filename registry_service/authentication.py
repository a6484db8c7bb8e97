"""From what a call carries to a credential; nothing here asks the database."""

from typing import Any

from lorikeet.rpc.credentials import bearer_token, invalid_credential, is_subject, peer_subjects
from protos import registry_pb2 as pb
from registry_service.access import API_KEY_PREFIX
from registry_service.credentials import (
    Credential,
    api_key_credential,
    certificate_credential,
)
from registry_service.requests import invalid
from registry_service.tokens import MAX_TOKEN_LENGTH, TokenVerifier


class Authenticator:
    """Every failure is the one UNAUTHENTICATED; the cause goes to the log."""

    def __init__(self, tokens: TokenVerifier | None) -> None:
        self._tokens = tokens

    async def close(self) -> None:
        if self._tokens is not None:
            await self._tokens.close()

    async def credential_of(self, context: Any) -> Credential:
        """A bearer token if the call has one, else its client certificate."""
        token = bearer_token(context)
        if token is not None:
            return await self._from_token(token)
        subjects = peer_subjects(context)
        if not subjects:
            raise invalid_credential()
        return certificate_credential(subjects)

    async def presented(self, request: pb.IdentifyCallerRequest) -> Credential | None:
        """What a service says its own caller presented to it; None when it asks about itself."""
        if request.api_key and request.subject:
            raise invalid("subject", "give api_key or subject, not both")
        if request.subject:
            if not is_subject(request.subject) or request.subject.startswith("jwt:"):
                raise invalid_credential()
            return certificate_credential([request.subject])
        return await self._from_token(request.api_key) if request.api_key else None

    async def _from_token(self, token: str) -> Credential:
        if len(token) > MAX_TOKEN_LENGTH:
            raise invalid_credential()
        if self._tokens is None or token.startswith(API_KEY_PREFIX):
            return api_key_credential(token)
        return await self._tokens.verify(token)
