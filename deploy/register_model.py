"""Registers the base model, and gives the inference service its key and no other.

    python register_model.py REGISTRY CA MODEL_DIRECTORY BASE_MODEL_ID CREDENTIALS TARGET

CREDENTIALS is what the registry wrote at its first start; TARGET gets the inference service's part.
"""

import json
import sys
from pathlib import Path

from lorikeet.admin import AdminClient
from lorikeet.rpc.tls import channel_credentials
from lorikeet.state import write_private_json


def register(
    registry: str, ca: Path, model: Path, base_model: str, credentials: Path, target: Path
) -> None:
    """May run again: a base model that is there is compared with the directory's."""
    keys = json.loads(credentials.read_text())
    with AdminClient(registry, keys["admin"], credentials=channel_credentials(ca)) as admin:
        admin.register_base_model(base_model, model, source=base_model, revision="main")
    write_private_json(target, {"inference": keys["inference"]})
    print(f"base model {base_model} is registered")


if __name__ == "__main__":
    address, ca, model, base_model, credentials, target = sys.argv[1:]
    register(address, Path(ca), Path(model), base_model, Path(credentials), Path(target))
