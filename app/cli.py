"""The `wallet` command. Thin: each command imports what it needs when it runs, so that `--help` is quick."""

import asyncio
import sys

import click

from app.commands.people import staff, user
from app.commands.startup import (
    all_settings,
    database_settings,
    environment,
    server_settings,
    warn_of_unproven_phones,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def wallet() -> None:
    """An electronic-wallet payment API, and everything around it."""


wallet.add_command(staff)
wallet.add_command(user)


@wallet.command()
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="API processes.")
def serve(port: int, workers: int) -> None:
    """Run everything on this machine: PostgreSQL, Valkey, migrations, API and worker. Ctrl-C stops them all."""
    environment(with_running=False)
    from app.commands.serve import serve

    serve(port=port, workers=workers)


@wallet.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes.")
@click.option("--fd", type=int, hidden=True, help="Given by a supervisor: the socket it listens on.")
def api(host: str, port: int, workers: int, fd: int | None) -> None:
    """Run only the HTTP API, against DATABASE_URL and REDIS_URL."""
    settings = server_settings(supervised=fd is not None)
    from app.commands.api import serve_http
    from app.server.sockets import listen

    if fd is not None:
        from socket import socket

        serve_http(settings, socket(fileno=fd))
        return
    warn_of_unproven_phones(settings)
    if workers == 1:
        serve_http(settings, listen(host, port)[0])
    else:
        from app.commands.serve import serve_api

        serve_api(host=host, port=port, workers=workers)


@wallet.command()
@click.option("--supervised", is_flag=True, hidden=True, help="Given by a supervisor: end when it ends.")
def worker(supervised: bool) -> None:
    """Run only the worker, against DATABASE_URL and REDIS_URL: mail, exchange rates, fees, upkeep."""
    settings = server_settings(supervised=supervised)
    from tasks.worker import run_worker

    asyncio.run(run_worker(settings))


@wallet.command()
@click.option("--check", is_flag=True, help="Only check, without a database, whether a migration is missing.")
def migrate(check: bool) -> None:
    """Run the migrations that have not run yet."""
    if check:
        environment()
        from db.migrate import missing_changes

        if missing := asyncio.run(missing_changes()):
            raise click.ClickException(
                f"The tables differ from the migrations in {len(missing)} places; write one with"
                " `.venv/bin/piccolo migrations new db --auto`."
            )
        click.echo("No migration is missing.")
        return
    settings = database_settings()
    from db.migrate import migrate

    done = asyncio.run(migrate(settings.database_url))
    click.echo("\n".join(f"Migrated: {name}" for name in done) or "Nothing to migrate.")


@wallet.command()
def fees() -> None:
    """Charge the fees that are due now."""
    settings = all_settings()
    from app.commands.jobs import charge_fees
    from app.commands.output import json_line

    click.echo(json_line(asyncio.run(charge_fees(settings))))


@wallet.command()
@click.option("--accept", is_flag=True, help="Accept the rates, however much they have changed.")
def rates(accept: bool) -> None:
    """Fetch exchange rates now."""
    settings = all_settings()
    from app.commands.jobs import get_rates
    from app.commands.output import json_line

    fetched = asyncio.run(get_rates(settings, accept=accept))
    if refused := not fetched.succeeded:
        click.echo(f"The rates were not taken: {fetched.reason}", err=True)
    click.echo(json_line(fetched))
    sys.exit(1 if refused and not fetched.snapshot_in_use else 0)


@wallet.command()
@click.option("--minutes", default=1.0, show_default=True, type=click.FloatRange(0.05, 24 * 60))
@click.option("--seed", type=int, help="Repeats a run's payments and faults; random if not given.")
@click.option("--processes", default=2, show_default=True, type=click.IntRange(1, 16), help="API processes.")
@click.option("--clients", default=24, show_default=True, type=click.IntRange(1, 1000))
@click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
def prove(minutes: float, seed: int | None, processes: int, clients: int, *, as_json: bool) -> None:
    """Break everything under load, on scratch data. Exit 1 if anything is wrong in the end."""
    from secrets import randbelow

    from app.commands.output import json_line
    from app.proof.prove import prove as run
    from app.proof.prove import told

    seed = randbelow(10**6) if seed is None else seed
    proof = asyncio.run(run(minutes=minutes, seed=seed, processes=processes, clients=clients))
    click.echo(json_line(proof) if as_json else told(proof))
    sys.exit(0 if proof.holds else 1)


@wallet.command()
@click.option("--keep", is_flag=True, help="Keep the result for /health/integrity, as that of the nightly audit is.")
def audit(*, keep: bool) -> None:
    """Check the ledger. Exit 1 and say where it does not hold."""
    database_settings()
    from app.commands.output import json_line
    from db.audit import audit, keep_result

    report = asyncio.run(audit())
    if keep:
        asyncio.run(keep_result(report))
    for finding in report.findings:
        click.echo(
            f"Does not hold: {finding.rule}, in {finding.count} places: {', '.join(finding.examples[:3])}", err=True
        )
    click.echo(json_line(report))
    sys.exit(0 if report.ok else 1)


@wallet.command()
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="A running development server.")
def demo(url: str) -> None:
    """Act as two new users against a running server. Register, deposit, send, read the statement."""
    from app.commands.demo import demo

    demo(url)


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
        from app.commands.errors import sentence

        if said := sentence(error):
            click.echo(f"Error: {said}", err=True)
            sys.exit(1)
        raise


if __name__ == "__main__":
    main()
