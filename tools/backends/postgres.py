"""A PostgreSQL cluster of its own, from the system's packages: in a scratch folder, on 127.0.0.1, gone afterwards."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from flows.services import server
from flows.services.server import free_port, running_tree
from keypipe.errors import PoseError

USER = "keypipe"
INSTALL = "apt-get install postgresql (Debian, Ubuntu)"
_DEBIAN = Path("/usr/lib/postgresql")
_UNPRIVILEGED = ("postgres", "nobody")
"""Users that a cluster may run as where this program is root, which PostgreSQL refuses."""


class Cluster:
    """A cluster of one user.

    Attributes:
        port: of 127.0.0.1.
        password: of its only user, ``keypipe``.
        programs: the folder with ``pg_dump`` and the others.
        folder: with its files.
    """

    def __init__(self, port: int, password: str, programs: Path, folder: Path) -> None:
        self.port, self.password, self.programs, self.folder = port, password, programs, folder

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it while the block runs; what it holds stays for the next time.

        Raises:
            PoseError: it does not come up.
        """
        command = [*_become_unprivileged(self.folder), str(self.programs / "postgres")]
        command += ["-D", str(self.folder / "data"), "-p", str(self.port)]
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = Path("postgres.log")
        with running_tree(self.folder, command, _plain_environment(), log) as tree:
            deadline = time.monotonic() + server.START_SECONDS
            while not self._answers():
                if not tree.running or time.monotonic() > deadline:
                    said = (self.folder / log).read_text(encoding="utf-8", errors="replace")
                    raise PoseError(f"PostgreSQL did not come up: {said.strip()[-1000:]}")
                time.sleep(0.1)
            yield

    def _answers(self) -> bool:
        try:
            self.run("psql", "--no-psqlrc", "--dbname=postgres", "--command=SELECT 1")
        except PoseError:
            return False
        return True

    def url(self, database: str, driver: str = "") -> str:
        """Return the address of a database, with the password.

        Args:
            database: its name.
            driver: of SQLAlchemy, such as ``asyncpg``; default: the one that it takes by itself.
        """
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{USER}:{quote(self.password, safe='')}@127.0.0.1:{self.port}/{database}"

    def environment(self) -> dict[str, str]:
        """Return by what PostgreSQL's own programs find the cluster, so that no command line has the password."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": USER,
            "PGPASSWORD": self.password,
        }

    def create(self, database: str) -> None:
        """Create an empty database."""
        self.run("createdb", database)

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run one of PostgreSQL's own programs and return what it prints."""
        command = [str(self.programs / program), *map(str, arguments)]
        env = os.environ | self.environment()
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PoseError(f"{program}: {done.stderr.strip()}")
        return done.stdout


def find_programs() -> Path | None:
    """Return the folder of the newest PostgreSQL that is installed as Debian does it, or on the PATH."""
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(re.sub(r"\D", "", path.parts[-3]) or 0))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


@contextmanager
def made_cluster(password: str = "") -> Iterator[Cluster]:
    """Make a cluster that does not run yet; its folder goes after the block.

    Args:
        password: of its user; default: a fresh one.

    Raises:
        PoseError: PostgreSQL is not installed.
    """
    programs = find_programs()
    if programs is None:
        raise PoseError(f"PostgreSQL's server is not installed; {INSTALL}")
    folder = Path(tempfile.mkdtemp(prefix="keypipe-postgres-"))
    cluster = Cluster(free_port(), password or secrets.token_hex(16), programs, folder)
    try:
        _make(cluster, _become_unprivileged(folder))
        yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_cluster(password: str = "") -> Iterator[Cluster]:
    """Make a cluster and run it while the block runs."""
    with made_cluster(password) as cluster, cluster.running():
        yield cluster


def _become_unprivileged(folder: Path) -> list[str]:
    """Return what runs a command as a user that PostgreSQL accepts, and give that user the folder."""
    if os.geteuid() != 0:
        return []
    for name in _UNPRIVILEGED:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, user.pw_uid, user.pw_gid)
        return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    raise PoseError(f"PostgreSQL does not run as root, and there is no user {' or '.join(_UNPRIVILEGED)}")


def _make(cluster: Cluster, prefix: list[str]) -> None:
    """Make the cluster's files, with a password for everybody who connects."""
    folder = cluster.folder
    secret = folder / "password"
    secret.touch(0o600)
    secret.write_text(f"{cluster.password}\n", encoding="utf-8")
    os.chown(secret, folder.stat().st_uid, folder.stat().st_gid)
    command = [*prefix, str(cluster.programs / "initdb"), "-D", str(folder / "data"), "-U", USER, "-E", "UTF8"]
    command += ["--locale=C", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync"]
    done = subprocess.run(command, cwd=folder, env=_plain_environment(), capture_output=True, text=True, check=False)
    secret.unlink()
    if done.returncode:
        raise PoseError(f"initdb: {done.stderr.strip() or done.stdout.strip()}")


def _plain_environment() -> dict[str, str]:
    """Return an environment in which no setting of another PostgreSQL counts."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
