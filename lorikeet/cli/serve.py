"""`lorikeet serve`: both services on this machine, until Ctrl-C."""

import json
import re
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lorikeet.cli.failures import CommandError
from lorikeet.cli.inference_options import inference_arguments
from lorikeet.cli.output import command, stdout
from lorikeet.local import LocalStack
from lorikeet.process import interrupt_on_sigterm
from lorikeet.state import STATE_DIR, ServeState, write_private_json

_DEFAULT_TENANT = "default"
_CHECK_SECONDS = 0.5
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]


def serve(
    model: Annotated[str, typer.Option(help="A checkpoint directory, or a Hugging Face id.")],
    base_model: Annotated[str, typer.Option(help="Its id; by default made of its name.")] = "",
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of the model.")] = "main",
    port: Annotated[int, typer.Option(help="Of the inference service; 0 is any.")] = 50052,
    registry_port: Annotated[int, typer.Option(help="Of the registry; 0 is any.")] = 50051,
    data_dir: Annotated[Path, typer.Option(help="Where everything is kept.")] = STATE_DIR,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    max_model_len: Annotated[int | None, typer.Option(help="Longest sequence.")] = None,
    memory: Annotated[str | None, typer.Option(help="For KV and adapters, e.g. 512MiB.")] = None,
    gpu_memory_utilization: Annotated[
        float | None, typer.Option(help="Share of a GPU's memory to use; by default 0.9.")
    ] = None,
    max_num_seqs: Annotated[int | None, typer.Option(help="Sequences at once.")] = None,
    max_lora_rank: Annotated[int | None, typer.Option(help="Highest adapter rank.")] = None,
    inference_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Any other setting of `python -m inference_service`, as max_loras=8 or "
            "prefix_caching=false; may be given again.",
        ),
    ] = None,
) -> None:
    """Starts a registry and an inference service here; the other commands then find them."""
    options = {
        "--device": device,
        "--dtype": dtype,
        "--max-model-len": max_model_len,
        "--memory": memory,
        "--gpu-memory-utilization": gpu_memory_utilization,
        "--max-num-seqs": max_num_seqs,
        "--max-lora-rank": max_lora_rank,
    }
    passed_on = list(inference_arguments(inference_option or ()))
    directory = resolve_model(model, revision)
    stack = LocalStack(
        directory,
        base_model or _identifier(model),
        revision=revision,
        source=directory.name if Path(model).is_dir() else model,
        known_as=sorted({model, str(directory)}),
        data_dir=data_dir,
        registry_port=registry_port,
        inference_port=port,
        inference_args=[
            *(str(item) for pair in options.items() if pair[1] for item in pair),
            *passed_on,
        ],
    )
    with interrupt_on_sigterm(), Console(stderr=True).status(f"starting {model}"):
        stack.start()
    _run(stack)


def resolve_model(model: str, revision: str) -> Path:
    """The checkpoint's directory; a Hugging Face id is downloaded, or found in the local cache."""
    if Path(model).is_dir():
        return Path(model).resolve()
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise CommandError(f"{model} is neither a directory nor a Hugging Face id like org/name")
    from huggingface_hub import snapshot_download  # takes a second to import
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        summary = str(error).strip().splitlines()[0]
        raise CommandError(
            f"cannot download {model}@{revision}: {summary}"
            " - check the name and the network, or pass a directory"
        ) from error


def tenant_keys(stack: LocalStack) -> dict[str, str]:
    """The default tenant's key: made on the first run, then kept beside the registry's data."""
    path = stack.data_dir / "tenant_keys.json"
    if path.exists():
        keys: dict[str, str] = json.loads(path.read_text())
        return keys
    with stack.admin() as admin:
        secret = admin.ensure_tenant(
            _DEFAULT_TENANT, permissions=("adapters.use", "adapters.publish")
        )
    keys = {_DEFAULT_TENANT: secret}
    write_private_json(path, keys)
    return keys


def publish_state(stack: LocalStack, keys: dict[str, str], default_tenant: str) -> None:
    """Writes the state file, with which the other commands find this stack."""
    ServeState(
        registry=stack.registry_address,
        inference=stack.inference_address,
        admin_key=stack.credentials["admin"],
        default_tenant=default_tenant,
        tenant_keys=keys,
    ).write()


def wait_for_interrupt(stack: LocalStack) -> None:
    """Returns on Ctrl-C or SIGTERM; ServiceFailedError when a service ends by itself."""
    with interrupt_on_sigterm():
        try:
            while True:
                stack.check()
                time.sleep(_CHECK_SECONDS)
        except KeyboardInterrupt:
            return


def _run(stack: LocalStack) -> None:
    console = stdout()
    try:
        publish_state(stack, tenant_keys(stack), _DEFAULT_TENANT)
        console.print(
            f"registry {stack.registry_address}, inference {stack.inference_address}."
            " Try, in this directory:\n"
            f'  {command()} generate "Once upon a time"\n'
            f"  {command()} info\n"
            f"  {command()} adapters push PEFT_DIRECTORY my-adapter\n"
            "Ctrl-C stops both services.",
            markup=False,
            soft_wrap=True,
        )
        wait_for_interrupt(stack)
    finally:
        ServeState.remove()
        stack.stop()


def _identifier(model: str) -> str:
    """`TinyLlama/TinyLlama-1.1B` → `tinyllama-1.1b`."""
    name = Path(model).name.lower()
    return re.sub(r"[^a-z0-9._-]+", "-", name).strip("-._")[:63] or "base"
