"""`lorikeet principals` and `lorikeet whoami`: who may do what, and what they are known by."""

from typing import Annotated

import typer

from lorikeet.cli.failures import CommandError
from lorikeet.cli.output import JsonOption, print_json, print_table, stdout
from lorikeet.cli.settings import Settings
from lorikeet.operations.access import PERMISSION_NAMES, grant, permission_name
from protos import registry_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Principals: who may do what.")

PrincipalArgument = Annotated[str, typer.Argument(help="TENANT/PRINCIPAL.")]
GrantOption = Annotated[
    list[str] | None,
    typer.Option(
        "--grant",
        help="PERMISSION or PERMISSION=TENANT, e.g. adapters.use or audit='*'; by default in the"
        f" principal's own tenant. Permissions: {', '.join(PERMISSION_NAMES)}.",
    ),
]
SubjectOption = Annotated[
    list[str] | None,
    typer.Option("--subject", help="spiffe://…, dns:NAME of its certificate, or jwt:SUB."),
]


@app.command("list")
def list_principals(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Whose principals.")],
    as_json: JsonOption = False,
) -> None:
    """Lists the principals of a tenant."""
    with Settings.of(context).admin() as admin:
        principals = admin.list_principals(tenant)
    if as_json:
        print_json(principals)
        return
    rows = ((_short(p.name), _grants(p), ", ".join(p.subjects)) for p in principals)
    print_table(("principal", "grants", "subjects"), rows, "no principals")


@app.command()
def show(context: typer.Context, principal: PrincipalArgument, as_json: JsonOption = False) -> None:
    """Shows a principal."""
    with Settings.of(context).admin() as admin:
        _print(admin.get_principal(principal), as_json)


@app.command()
def create(
    context: typer.Context,
    principal: PrincipalArgument,
    grants: GrantOption = None,
    subjects: SubjectOption = None,
    display_name: Annotated[str, typer.Option(help="Its name for people.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Creates a principal; `lorikeet keys create` gives it a key, if it needs one."""
    tenant, _, identifier = principal.partition("/")
    with Settings.of(context).admin() as admin:
        created = admin.create_principal(
            tenant,
            identifier,
            grants=_parsed(grants, tenant),
            subjects=subjects or (),
            display_name=display_name,
        )
    _print(created, as_json)


@app.command()
def update(
    context: typer.Context,
    principal: PrincipalArgument,
    subjects: SubjectOption = None,
    no_subjects: Annotated[bool, typer.Option(help="Forget every subject.")] = False,
    display_name: Annotated[str | None, typer.Option(help="Its name for people.")] = None,
    etag: Annotated[str, typer.Option(help="Fail if it changed since.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Replaces a principal's subjects or its name for people."""
    if no_subjects and subjects:
        raise CommandError("give --subject or --no-subjects, not both")
    chosen = [] if no_subjects else subjects
    if chosen is None and display_name is None:
        raise CommandError("nothing to change: give --subject, --no-subjects or --display-name")
    with Settings.of(context).admin() as admin:
        updated = admin.update_principal(
            principal, subjects=chosen, display_name=display_name, etag=etag
        )
    _print(updated, as_json)


@app.command("set-grants")
def set_grants(
    context: typer.Context,
    principal: PrincipalArgument,
    grants: GrantOption = None,
    etag: Annotated[str, typer.Option(help="Fail if it changed since.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Replaces what a principal may do; without --grant, it may do nothing."""
    tenant = principal.removeprefix("tenants/").partition("/")[0]
    with Settings.of(context).admin() as admin:
        updated = admin.set_grants(principal, _parsed(grants, tenant), etag=etag)
    _print(updated, as_json)


@app.command()
def delete(context: typer.Context, principal: PrincipalArgument) -> None:
    """Deletes a principal; its keys and subjects stop working at once."""
    with Settings.of(context).admin() as admin:
        admin.delete_principal(principal)
    stdout().print(f"deleted {principal}", markup=False)


def whoami(context: typer.Context, as_json: JsonOption = False) -> None:
    """Shows whom the registry takes you for."""
    with Settings.of(context).admin() as admin:
        identity = admin.identify_caller()
    if as_json:
        print_json(identity)
        return
    print_table(
        ("", ""), [("principal", _short(identity.principal)), ("grants", _grants(identity))], ""
    )


def _parsed(grants: list[str] | None, tenant: str) -> list[pb.Grant]:
    parsed = []
    for text in grants or ():
        given, _, scope = text.partition("=")
        permission = next((name for name in PERMISSION_NAMES if name == given), None)
        if permission is None:
            raise CommandError(f"{given!r} is none of {', '.join(PERMISSION_NAMES)}")
        # An administrator has every tenant: the registry knows no smaller one.
        scope = scope or ("*" if permission == "admin" else tenant)
        parsed.append(grant(permission, scope))
    return parsed


def _print(principal: pb.Principal, as_json: bool) -> None:
    if as_json:
        print_json(principal)
        return
    rows = [
        ("principal", _short(principal.name)),
        ("display name", principal.display_name),
        ("grants", _grants(principal)),
        ("subjects", ", ".join(principal.subjects)),
        ("etag", principal.etag),
    ]
    print_table(("", ""), rows, "")


def _grants(holder: pb.Principal | pb.Identity) -> str:
    return ", ".join(
        f"{permission_name(grant.permission)}={grant.scope.removeprefix('tenants/')}"
        for grant in holder.grants
    )


def _short(name: str) -> str:
    return name.removeprefix("tenants/").replace("/principals/", "/")
