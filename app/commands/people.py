"""The commands about people: `wallet staff` and `wallet user`."""

import asyncio
import sys

import click

from app.commands.startup import all_settings, database_settings


@click.group()
def staff() -> None:
    """The logins of the admin and the worker dashboard."""


@staff.command("create")
@click.option("--username", prompt=True)
@click.option("--email", prompt=True)
@click.option(
    "--operator/--viewer",
    default=True,
    show_default=True,
    help="An operator may act on money and people; a viewer may only look.",
)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def create_staff(username: str, email: str, operator: bool, password_stdin: bool) -> None:
    """Create a login."""
    database_settings()
    from app.staff.logins import create_login

    password = _new_password(password_stdin)
    asyncio.run(create_login(username=username, email=email, password=password, operator=operator))
    click.echo(f"{username} may now sign in at /admin/ as {'an operator' if operator else 'a viewer'}.")


@staff.command("password")
@click.argument("username")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def change_staff_password(username: str, password_stdin: bool) -> None:
    """Set a new password, and sign the login out everywhere."""
    database_settings()
    from app.staff.logins import change_login

    asyncio.run(change_login(username, password=_new_password(password_stdin)))
    click.echo(f"{username} has a new password and is signed out everywhere.")


@staff.command("disable")
@click.argument("username")
def disable_staff(username: str) -> None:
    """Disable a login, and sign it out at once."""
    database_settings()
    from app.staff.logins import change_login

    asyncio.run(change_login(username, active=False))
    click.echo(f"{username} is signed out and can't sign in. `wallet staff enable {username}` undoes it.")


@staff.command("enable")
@click.argument("username")
def enable_staff(username: str) -> None:
    """Enable a disabled login."""
    database_settings()
    from app.staff.logins import change_login

    asyncio.run(change_login(username, active=True))
    click.echo(f"{username} can sign in again.")


@staff.command("list")
def list_staff() -> None:
    """List all logins, disabled ones too."""
    database_settings()
    from app.staff.logins import logins

    for login in asyncio.run(logins()):
        role = "operator" if login["superuser"] else "viewer"
        last = f"last seen {login['last_login']:%Y-%m-%d %H:%M} UTC" if login["last_login"] else "never signed in"
        click.echo(f"{login['username']}  {login['email']}  {role if login['active'] else 'disabled'}  {last}")


@click.group()
def user() -> None:
    """Export, erase, block or unblock people."""


@user.command("export")
@click.argument("person")
@click.option("--output", type=click.Path(dir_okay=False), help="A new file; standard output if not given.")
def export_user(person: str, output: str | None) -> None:
    """Print everything kept about a person, as JSON. PERSON is an email address, a phone number or an id."""
    settings = all_settings()
    from app.commands.personal_data import export_person

    asyncio.run(export_person(settings, person, output))


@user.command("erase")
@click.argument("person")
@click.option("--yes", is_flag=True, help="Don't ask.")
def erase_user(person: str, *, yes: bool) -> None:
    """
    Erase a person's data for good, and keep the ledger.

    Refused while a wallet has money in it. PERSON is an email address, a phone number or an id.
    """
    settings = all_settings()
    from app.commands.personal_data import erase_person

    if not yes:
        click.confirm(f"Erase {person}? This can't be undone.", abort=True)
    user_id = asyncio.run(erase_person(settings, person))
    click.echo(f"Erased: {user_id}. Backups made before still have them.")


@user.command("block")
@click.argument("person")
@click.option("--reason", prompt=True, help="Kept in the staff's log, for good.")
def block_user(person: str, reason: str) -> None:
    """Block a person from signing in; end all their sessions. PERSON is an email address, a phone number or an id."""
    settings = database_settings()
    from app.people.blocking import block, shell

    done = asyncio.run(block(person, reason=reason, staff=shell(), phone_region=settings.phone_region))
    click.echo(f"{done.user_id} is blocked{'' if done.changed else ' already'}. `wallet user unblock` undoes it.")


@user.command("unblock")
@click.argument("person")
@click.option("--reason", prompt=True, help="Kept in the staff's log, for good.")
def unblock_user(person: str, reason: str) -> None:
    """Let a blocked person sign in again. PERSON is an email address, a phone number or an id."""
    settings = database_settings()
    from app.people.blocking import shell, unblock

    done = asyncio.run(unblock(person, reason=reason, staff=shell(), phone_region=settings.phone_region))
    click.echo(f"{done.user_id} can sign in{' again' if done.changed else ': they were not blocked'}.")


def _new_password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password
