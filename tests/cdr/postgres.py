"""A real PostgreSQL server of the test's own: in a temporary folder, on a socket file, as a user without rights."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

DEADLINE = 30.0
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "30",
    "listen_addresses": "",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}


def program(name: str) -> str:
    """Debian keeps the server's programs out of PATH."""
    found = shutil.which(name) or max(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), default=None)
    if found is None:
        raise FileNotFoundError(f"the tests need {name}: tools/test-programs.sh installs it")
    return os.path.realpath(found)


class Postgres:
    """`start` and `stop` as often as a test wants; what was committed stays."""

    def __init__(self) -> None:
        self._user = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        self.folder = Path(tempfile.mkdtemp(prefix="callgate-pg-", dir="/tmp"))
        os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count()
        asked = ("-U", "gate", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
        made = subprocess.run(self._command("initdb", *asked), capture_output=True, cwd=self.folder)
        assert made.returncode == 0, made.stderr.decode()
        self.start()

    def _command(self, name: str, *arguments: str) -> list[str]:
        """As the user, and to end with this process, however that ends."""
        launch = ["setpriv", "--pdeathsig", "KILL"]
        if os.getuid() == 0:
            ids = (f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}")
            launch += [*ids, "--clear-groups"]
        return [*launch, program(name), "-D", str(self._data), *arguments]

    def url(self, user: str = "gate") -> str:
        return f"postgresql://{user}@/postgres?host={self.folder}"

    def fresh(self) -> str:
        """The URL of a database with nothing in it: a user with a schema of its own, which takes no time."""
        name = f"gate{next(self._names)}"
        with psycopg.connect(self.url(), autocommit=True) as admin:
            admin.execute(f"CREATE ROLE {name} LOGIN".encode())
            admin.execute(f"CREATE SCHEMA AUTHORIZATION {name}".encode())
        return self.url(name)

    def start(self) -> None:
        assert self._process is None
        settings = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        self._process = subprocess.Popen(
            self._command("postgres", "-k", str(self.folder), *settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            start_new_session=True,
        )
        end = time.monotonic() + DEADLINE
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, "the server has ended"
                assert time.monotonic() < end, "the server does not answer"
                time.sleep(0.02)

    def stop(self) -> None:
        """At once, as by a crash of its machine: connections break."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(DEADLINE)
        self._process = None

    def pause(self) -> None:
        """It is there and answers nobody: every process of it stands still."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        pid = self._process.pid
        os.kill(pid, number)
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), number)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
