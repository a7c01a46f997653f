"""The `wallet` command. Thin: each command imports what it needs when it runs, so that `--help` is quick."""

import asyncio
import logging
import os
import sys
import warnings
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from app.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def wallet() -> None:
    """An electronic-wallet payment API, and everything around it."""


@wallet.command()
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="API processes.")
def serve(port: int, workers: int) -> None:
    """Everything on this machine: PostgreSQL, Valkey, migrations, API and worker."""
    _environment(with_running=False)
    from app.serve import serve

    serve(port=port, workers=workers)


@wallet.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes.")
@click.option("--fd", type=int, hidden=True, help="Given by a supervisor: the socket it listens on.")
def api(host: str, port: int, workers: int, fd: int | None) -> None:
    """The HTTP API alone, against DATABASE_URL and REDIS_URL."""
    settings = _settings_of_server(supervised=fd is not None)
    from app.listen import listen, serve_http

    if fd is not None:
        from socket import socket

        serve_http(settings, socket(fileno=fd))
    elif workers == 1:
        serve_http(settings, listen(host, port)[0])
    else:
        from app.serve import serve_api

        serve_api(host=host, port=port, workers=workers)


@wallet.command()
@click.option("--supervised", is_flag=True, hidden=True, help="Given by a supervisor: end when it ends.")
def worker(supervised: bool) -> None:
    """The task worker alone, against DATABASE_URL and REDIS_URL: mail, exchange rates, fees, upkeep."""
    settings = _settings_of_server(supervised=supervised)
    from app.once import worker_settings
    from tasks.worker import run_worker

    asyncio.run(run_worker(worker_settings(settings)))


@wallet.command()
@click.option("--check", is_flag=True, help="Only tell, without a database, whether a migration is missing.")
def migrate(check: bool) -> None:
    """Run the migrations that have not run yet."""
    _environment()
    if check:
        from db.migrate import missing_changes

        if missing := asyncio.run(missing_changes()):
            raise click.ClickException(
                f"The tables differ from the migrations in {len(missing)} places; write one with"
                " `.venv/bin/piccolo migrations new db --auto`."
            )
        click.echo("No migration is missing.")
        return
    from app.settings import load_settings
    from db.migrate import migrate

    settings = load_settings(os.environ, needs=("DATABASE_URL",))
    done = asyncio.run(migrate(settings.database_url))
    click.echo("\n".join(f"Migrated: {name}" for name in done) or "Nothing to migrate.")


@wallet.command()
def fees() -> None:
    """Charge the fees that are due now."""
    settings = _settings()
    from app.once import charge_fees, json_line

    click.echo(json_line(asyncio.run(charge_fees(settings))))


@wallet.command()
@click.option("--accept", is_flag=True, help="Believe the source, however much its rates have changed.")
def rates(accept: bool) -> None:
    """Fetch exchange rates now."""
    settings = _settings()
    from app.once import get_rates, json_line

    fetched = asyncio.run(get_rates(settings, accept=accept))
    if refused := fetched.outcome in ("failed", "rejected"):
        click.echo(f"The rates were not taken: {fetched.reason}", err=True)
    click.echo(json_line(fetched))
    sys.exit(1 if refused and not fetched.snapshot_in_use else 0)


@wallet.command()
@click.option("--minutes", default=1.0, show_default=True, type=click.FloatRange(0.05, 24 * 60))
@click.option("--seed", type=int, help="The same payments and faults again; a new one if not given.")
@click.option("--processes", default=2, show_default=True, type=click.IntRange(1, 16), help="Of the API.")
@click.option("--clients", default=24, show_default=True, type=click.IntRange(1, 1000))
@click.option("--json", "as_json", is_flag=True, help="Tell it in one line of JSON.")
def prove(minutes: float, seed: int | None, processes: int, clients: int, *, as_json: bool) -> None:
    """Break PostgreSQL, Redis, API and worker under load, on scratch data; exit 1 if anything is lost or doubled."""
    from secrets import randbelow

    from app.once import json_line
    from app.proof.prove import prove as run
    from app.proof.prove import told

    seed = randbelow(10**6) if seed is None else seed
    proof = asyncio.run(run(minutes=minutes, seed=seed, processes=processes, clients=clients))
    click.echo(json_line(proof) if as_json else told(proof))
    sys.exit(0 if proof.holds else 1)


@wallet.command()
@click.option("--keep", is_flag=True, help="Keep the result for /health/integrity, as that of the nightly audit is.")
def audit(*, keep: bool) -> None:
    """Prove the ledger; exit 1 and tell where it does not hold."""
    _environment()
    from app.once import json_line
    from app.settings import load_settings
    from db.audit import audit

    load_settings(os.environ, needs=("DATABASE_URL",))
    report = asyncio.run(audit())
    if keep:
        from db.audit_results import keep_result

        asyncio.run(keep_result(report))
    for finding in report.findings:
        click.echo(
            f"Does not hold: {finding.rule}, in {finding.count} places: {', '.join(finding.examples[:3])}", err=True
        )
    click.echo(json_line(report))
    sys.exit(0 if report.ok else 1)


@wallet.group()
def staff() -> None:
    """The logins of the admin and the worker dashboard."""


@staff.command("create")
@click.option("--username", prompt=True)
@click.option("--email", prompt=True)
@click.option("--operator/--viewer", default=True, show_default=True, help="May act on money, or only look.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def create_staff(username: str, email: str, operator: bool, password_stdin: bool) -> None:
    """A new login."""
    _staff_settings()
    from app.staff import create_login

    password = _new_password(password_stdin)
    asyncio.run(create_login(username=username, email=email, password=password, operator=operator))
    click.echo(f"{username} may now sign in at /admin/ as {'an operator' if operator else 'a viewer'}.")


@staff.command("password")
@click.argument("username")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def change_staff_password(username: str, password_stdin: bool) -> None:
    """A new password; whoever is signed in under this name is signed out."""
    _staff_settings()
    from app.staff import change_login

    asyncio.run(change_login(username, password=_new_password(password_stdin)))
    click.echo(f"{username} has a new password and is signed out everywhere.")


@staff.command("disable")
@click.argument("username")
def disable_staff(username: str) -> None:
    """Let nobody in under this name any more, from this moment on."""
    _staff_settings()
    from app.staff import change_login

    asyncio.run(change_login(username, active=False))
    click.echo(f"{username} is signed out and can't sign in. `wallet staff enable {username}` undoes it.")


@staff.command("enable")
@click.argument("username")
def enable_staff(username: str) -> None:
    """Let a disabled login in again."""
    _staff_settings()
    from app.staff import change_login

    asyncio.run(change_login(username, active=True))
    click.echo(f"{username} can sign in again.")


@staff.command("list")
def list_staff() -> None:
    """Everybody who can sign in, or could."""
    _staff_settings()
    from app.staff import logins

    for login in asyncio.run(logins()):
        role = "operator" if login["superuser"] else "viewer"
        last = f"last seen {login['last_login']:%Y-%m-%d %H:%M} UTC" if login["last_login"] else "never signed in"
        click.echo(f"{login['username']}  {login['email']}  {role if login['active'] else 'disabled'}  {last}")


@wallet.group()
def user() -> None:
    """People: what is kept about them, and whether they are let in."""


@user.command("export")
@click.argument("person")
@click.option("--output", type=click.Path(dir_okay=False), help="A new file; standard output if not given.")
def export_user(person: str, output: str | None) -> None:
    """Everything that is kept about PERSON (email, phone number or id), as one JSON document."""
    settings = _settings()
    from app.once import export_person

    asyncio.run(export_person(settings, person, output))


@user.command("erase")
@click.argument("person")
@click.option("--yes", is_flag=True, help="Don't ask.")
def erase_user(person: str, *, yes: bool) -> None:
    """Erase PERSON (email, phone number or id) for good; refused while a wallet has money in it."""
    settings = _settings()
    from app.once import erase_person

    if not yes:
        click.confirm(f"Erase {person}? Nobody can undo this.", abort=True)
    user_id = asyncio.run(erase_person(settings, person))
    click.echo(f"Erased: {user_id}. Backups made before still have them.")


@user.command("block")
@click.argument("who")
@click.option("--reason", prompt=True, help="Kept in the staff's log, for good.")
def block_user(who: str, reason: str) -> None:
    """End all sessions of a person (phone, email or id) and let them sign in no more; money still reaches them."""
    settings = _staff_settings()
    from app.blocking import block, shell

    done = asyncio.run(block(who, reason=reason, staff=shell(), phone_region=settings.phone_region))
    click.echo(f"{done.user_id} is blocked{'' if done.changed else ' already'}. `wallet user unblock` undoes it.")


@user.command("unblock")
@click.argument("who")
@click.option("--reason", prompt=True, help="Kept in the staff's log, for good.")
def unblock_user(who: str, reason: str) -> None:
    """Let a blocked person sign in again."""
    settings = _staff_settings()
    from app.blocking import shell, unblock

    done = asyncio.run(unblock(who, reason=reason, staff=shell(), phone_region=settings.phone_region))
    click.echo(f"{done.user_id} can sign in{' again' if done.changed else ': they were not blocked'}.")


@wallet.command()
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="A running development server.")
def demo(url: str) -> None:
    """Act as two new users against a running server: register, deposit, send, read the statement."""
    from app.demo import demo

    demo(url)


def _settings() -> "Settings":
    """The settings of a command that runs once."""
    _environment()
    from app.settings import load_settings

    return load_settings(os.environ)


def _settings_of_server(*, supervised: bool) -> "Settings":
    """The settings of a part that runs alone. A supervised one first makes sure not to outlive its supervisor."""
    if supervised:
        from app.listen import end_with_supervisor

        end_with_supervisor()
    settings = _settings()
    from app.logs import configure_logs

    configure_logs(settings.log, production=not settings.development)
    return settings


def _staff_settings() -> "Settings":
    _environment()
    from app.settings import load_settings

    return load_settings(os.environ, needs=("DATABASE_URL",))


def _new_password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


def _environment(*, with_running: bool = True) -> None:
    """Complete the environment before anything imports the database engine, which reads it."""
    from app.environment import complete_environment

    complete_environment(with_running=with_running)
    # Piccolo warns of a table named `user`, which it quotes everywhere, and of a database that is not there, which is
    # no news to a command that needs none and is said properly by one that does.
    warnings.filterwarnings("ignore", module="piccolo")
    # Plain lines, for whoever has typed the command. Those that keep running log as `app/logs.py` says.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def main() -> None:
    """Run the command; what a user can mend is told in one sentence, on stderr."""
    try:
        sys.exit(wallet.main(prog_name="wallet", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Exception as error:
        from app.sentences import sentence

        if said := sentence(error):
            click.echo(f"Error: {said}", err=True)
            sys.exit(1)
        raise


if __name__ == "__main__":
    main()
