"""Registers the base model, and gives the inference service its key and no other.

Runs once, after the registry has started for the first time and written its credentials.
"""

import argparse
import json
from pathlib import Path

from lorikeet.admin import AdminClient
from lorikeet.rpc.tls import channel_credentials
from lorikeet.state import write_private_json


def register(options: argparse.Namespace) -> None:
    """May run again: a base model that is there is compared with the directory's."""
    keys = json.loads(options.credentials.read_text())
    credentials = channel_credentials(options.tls_ca)
    with AdminClient(options.registry, keys["admin"], credentials=credentials) as admin:
        admin.register_base_model(
            options.base_model, options.model, source=options.source, revision=options.revision
        )
    write_private_json(options.inference_credentials, {"inference": keys["inference"]})
    print(f"base model {options.base_model} is registered")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registry", required=True, help="host:port")
    parser.add_argument("--tls-ca", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="directory of the checkpoint")
    parser.add_argument("--base-model", required=True, help="its id in the registry")
    parser.add_argument("--source", required=True, help="the name adapters were trained against")
    parser.add_argument("--revision", required=True, help="and the revision")
    parser.add_argument("--credentials", type=Path, required=True, help="what the registry wrote")
    parser.add_argument(
        "--inference-credentials", type=Path, required=True, help="gets the inference key"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    register(parse())
