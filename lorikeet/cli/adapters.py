"""`lorikeet adapters`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from lorikeet.admin import AdminClient
from lorikeet.cli import aliases, artifacts, policies, removal, versions
from lorikeet.cli.adapter_names import AdapterArgument
from lorikeet.cli.failures import CommandError
from lorikeet.cli.output import (
    JsonOption,
    byte_progress,
    format_bytes,
    format_time,
    print_json,
    print_result,
    print_table,
    short,
    stdout,
)
from lorikeet.cli.policies import tenants_text
from lorikeet.cli.settings import Settings
from lorikeet.cli.versions import labels_text, print_versions, read_profile
from lorikeet.rpc.errors import AlreadyExistsError
from protos import registry_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Adapters, their versions and allow-lists.")
app.add_typer(versions.app, name="versions")
app.add_typer(aliases.app, name="alias")
app.add_typer(policies.app, name="policy")
app.command("import")(artifacts.import_)
app.command()(artifacts.download)
app.command()(policies.grant)
app.command()(policies.revoke)
app.command()(removal.delete)
app.command()(removal.undelete)
app.command()(removal.purge)


@app.command()
def push(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="What PEFT's save_pretrained wrote.")],
    adapter: AdapterArgument,
    base_model: Annotated[
        str, typer.Option(help="For a new adapter; may be left out while there is only one.")
    ] = "",
    alias: Annotated[
        list[str] | None, typer.Option(help="Aliases to point at the new version.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(help="JSON file of the version's own profile.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="A label, key=value.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Uploads a PEFT directory as the next version of an adapter, which is created if absent.

    For example: lorikeet adapters push out/ acme/math --alias candidate --label run=17
    """
    settings = Settings.of(context)
    name = settings.adapter(adapter)
    with settings.admin() as admin, byte_progress() as progress:
        _ensure_adapter(admin, name, base_model)
        task = progress.add_task(name, total=None)
        version = admin.push(
            directory,
            name,
            aliases=alias or (),
            profile=read_profile(profile),
            labels=artifacts.labels_of(label or []),
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(version)
    else:
        stdout().print(
            f"pushed {name}@{version.version}  {version.digest}"
            f"  rank {version.rank}  {format_bytes(version.size_bytes)}",
            markup=False,
        )


@app.command("list")
def list_adapters(
    context: typer.Context,
    filter: Annotated[
        str,
        typer.Option(help='A prefix of the id, or terms joined by AND: labels.team = "x".'),
    ] = "",
    deleted: Annotated[bool, typer.Option("--deleted", help="Deleted ones too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Lists a tenant's adapters.

    For example: lorikeet adapters list --filter 'support AND labels.team = "x"'
    """
    settings = Settings.of(context)
    with settings.admin() as admin:
        adapters = admin.list_adapters(
            settings.required_tenant(), filter=filter, show_deleted=deleted
        )
    if as_json:
        print_json(adapters)
        return
    rows = (
        (
            short(adapter.name),
            f"@{adapter.latest_version}" if adapter.latest_version else "-",
            adapter.base_model.removeprefix("baseModels/"),
            _aliases(adapter),
            ", ".join(adapter.warm_aliases),
            labels_text(adapter.labels),
            _deletion(adapter) or format_time(adapter.update_time),
        )
        for adapter in adapters
    )
    columns = ("adapter", "latest", "base model", "aliases", "warm", "labels", "updated (UTC)")
    print_table(columns, rows, "no adapters: `lorikeet adapters push DIRECTORY NAME` makes one")


@app.command()
def show(
    context: typer.Context,
    adapter: AdapterArgument,
    deleted: Annotated[bool, typer.Option("--deleted", help="Deleted versions too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Shows an adapter, its versions and who may use it."""
    settings = Settings.of(context)
    name = settings.adapter(adapter)
    with settings.admin() as admin:
        shown = admin.get_adapter(name)
        versions = admin.list_versions(name, show_deleted=deleted)
        policy = admin.get_access_policy(name)
    if as_json:
        print_json({"adapter": shown, "versions": versions, "access_policy": policy})
        return
    profile = [field.name for field, _ in shown.profile.ListFields()]
    facts = [
        ("adapter", short(shown.name)),
        ("on", shown.base_model),
        ("display name", shown.display_name),
        ("description", shown.description),
        ("labels", labels_text(shown.labels)),
        ("profile", ", ".join(profile)),
        ("aliases", _aliases(shown) or "none"),
        ("kept warm", ", ".join(shown.warm_aliases)),
        ("allowed", f"its owner, {tenants_text(policy)}".removesuffix(", ")),
        ("etag", shown.etag),
        ("deleted", _deletion(shown)),
    ]
    print_table(("", ""), [fact for fact in facts if fact[1]], "")
    print_versions(versions)


@app.command()
def update(
    context: typer.Context,
    adapter: AdapterArgument,
    display_name: Annotated[str | None, typer.Option(help="Its name for people.")] = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE, set or changed; others stay.")
    ] = None,
    remove_label: Annotated[list[str] | None, typer.Option(help="KEY, taken off.")] = None,
    profile: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="JSON of the whole profile."),
    ] = None,
    warm: Annotated[
        list[str] | None,
        typer.Option(help="An alias that inference services keep loaded; replaces the others."),
    ] = None,
    no_warm: Annotated[bool, typer.Option("--no-warm", help="None is kept loaded.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Changes an adapter's fields. A profile counts for versions made from now on.

    For example: lorikeet adapters update math --label team=x --warm stable --warm latest
    """
    if warm and no_warm:
        raise CommandError("--warm or --no-warm, not both")
    settings = Settings.of(context)
    name = settings.adapter(adapter)
    with settings.admin() as admin:
        labels, etag = None, ""
        if label or remove_label:
            current = admin.get_adapter(name)
            labels = _changed_labels(current.labels, label or [], remove_label or [])
            etag = current.etag
        updated = admin.update_adapter(
            name,
            display_name=display_name,
            description=description,
            labels=labels,
            profile=read_profile(profile),
            warm_aliases=[] if no_warm else warm,
            etag=etag,
        )
    print_result(updated, as_json, f"updated {name}")


def _ensure_adapter(admin: AdminClient, name: str, base_model: str) -> None:
    """Creates the adapter unless it is there."""
    base_model = base_model or _only_base_model(admin)
    try:
        admin.create_adapter(name, base_model)
    except AlreadyExistsError:
        return


def _only_base_model(admin: AdminClient) -> str:
    base_models = [model.name.removeprefix("baseModels/") for model in admin.list_base_models()]
    if len(base_models) == 1:
        return base_models[0]
    known = ", ".join(base_models) or "none is registered"
    raise CommandError(f"which base model is it for? Pass --base-model ({known})")


def _changed_labels(
    labels: Mapping[str, str], added: Sequence[str], removed: Sequence[str]
) -> dict[str, str]:
    pairs = [text.partition("=") for text in added]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise CommandError("a label is KEY=VALUE")
    kept = {key: value for key, value in labels.items() if key not in removed}
    return kept | {key: value for key, _, value in pairs}


def _aliases(adapter: pb.Adapter) -> str:
    pairs = ((item.name.rpartition("/")[2], item.version) for item in adapter.aliases)
    return ", ".join(f"{name}=@{version}" for name, version in pairs)


def _deletion(adapter: pb.Adapter) -> str:
    if not adapter.HasField("delete_time"):
        return ""
    return f"deleted, purged at {format_time(adapter.purge_time)}"
