"""A real PostgreSQL server on a free port of this machine, for as long as a test needs it."""

import os
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from orthanc import free_port, program
from sqlalchemy import NullPool, create_engine

PASSWORD = "never-in-a-message"


@contextmanager
def postgres(folder):
    """Give the URL of a server with a password; its log is in ``folder``."""
    bin_folder = _binaries()
    folder.mkdir(parents=True, exist_ok=True)
    # the server refuses root, and its own user cannot enter a test's folder
    with tempfile.TemporaryDirectory(prefix="mrtai-postgres-") as home, (folder / "postgres.log").open("w") as log:
        data, port, user = Path(home) / "data", free_port(), _server_user()
        secret = Path(home) / "password"
        secret.write_text(PASSWORD)
        if user:
            for path in (Path(home), secret):
                os.chown(path, *_ids(user["user"]))
        run = {"stdout": log, "stderr": log, "cwd": home, **user}
        made = [
            f"{bin_folder}/initdb",
            "-D",
            data,
            "-U",
            "mrtai",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]
        subprocess.run(made, check=True, **run)
        process = subprocess.Popen(
            [f"{bin_folder}/postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", home, "-c", "fsync=off"], **run
        )
        try:
            url = f"postgresql+pg8000://mrtai:{PASSWORD}@127.0.0.1:{port}/postgres"
            _wait(url, process)
            yield url
        finally:
            _stop(process)


def _stop(process):
    # SIGQUIT is the immediate shutdown: the data go with it, so nothing has to reach the disk
    process.send_signal(signal.SIGQUIT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def emptied(url):
    """Return the URL after everything in its database was dropped: faster than a new database, which copies a thousand files."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
        # as in a new database
        connection.exec_driver_sql("GRANT USAGE ON SCHEMA public TO PUBLIC")
    return url


def new_database(url, name):
    """Return the URL of a fresh database on the server at ``url``, for two at a time."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
    return url.rsplit("/", 1)[0] + f"/{name}"


def _binaries():
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return Path(program("initdb", *[str(path) for path in reversed(installed)])).resolve().parent


def _server_user():
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def _ids(name):
    import pwd

    found = pwd.getpwnam(name)
    return found.pw_uid, found.pw_gid


def _wait(url, process):
    until, engine = time.monotonic() + 60, create_engine(url, poolclass=NullPool)
    while time.monotonic() < until and process.poll() is None:
        try:
            with engine.connect():
                return
        except Exception:
            time.sleep(0.1)
    raise RuntimeError("PostgreSQL did not start")
