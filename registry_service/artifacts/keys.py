"""Keys of objects: which part of a store is for what.

tenants/{tenant}/sha256/{hex}/{file}       bytes of versions, by what they are
uploads/{upload}/{file}/{offset}-{random}  pieces of unfinished uploads
imports/{tenant}/...                       what operators or tenants put there to be imported
"""

import re
import secrets

from adapter_format.violation import shown
from registry_service.requests import invalid

VERSIONS = "tenants/"
UPLOADS = "uploads/"
_MAX_PREFIX = 512
_MAX_SEGMENTS = 16
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def storage_path(tenant: str, digest: str) -> str:
    """Where the files of a manifest lie; equal bytes of one tenant lie there once."""
    return f"{VERSIONS}{tenant}/{digest.replace(':', '/')}"


def new_chunk_key(upload: str, file_name: str, offset: int) -> str:
    """A key nobody else writes to, so that writers of one offset cannot disturb each other."""
    return f"{UPLOADS}{upload}/{file_name}/{offset}-{secrets.token_hex(8)}"


def import_prefix(tenant: str, prefix: str) -> str:
    """The prefix of a tenant's import; INVALID_ARGUMENT for what is not plainly below its area."""
    segments = prefix.split("/")
    plain = all(_SEGMENT.fullmatch(segment) for segment in segments)
    if not plain or len(prefix) > _MAX_PREFIX or len(segments) > _MAX_SEGMENTS:
        raise invalid(
            "prefix",
            f"{shown(prefix)} is not a path below the tenant's import area: use names of letters, "
            "digits, '.', '_' and '-' that begin with a letter or digit, separated by '/'",
        )
    return f"imports/{tenant}/{prefix}/"
