"""Kamailio as a carrier that lets nobody in without a password: another's registrar and another's digest."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.e2e.gate import Address, free_port, hostport, spawn, until

REALM, USER, PASSWORD = "carrier.test", "gate", "open sesame"
_PATH = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"

CONFIG = """\
#!KAMAILIO
fork=no
children=1
log_stderror=yes
debug=1
disable_tcp=yes
auto_aliases=no
listen=udp:{listen}
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
modparam("usrloc", "db_mode", 0)
modparam("auth", "algorithm", "{algorithm}")
modparam("auth", "one_time_nonce", 1)
modparam("registrar", "min_expires", 60)

request_route {{
    if (is_method("CANCEL")) {{
        if (t_check_trans()) t_relay();
        exit;
    }}
    if (is_method("ACK")) t_check_trans();  # one of a challenge ends here
    else if (!is_method("REGISTER")) t_newtran();
    if (is_method("OPTIONS") && !has_totag()) {{
        t_reply("200", "OK");
        exit;
    }}
    if (has_totag() && !loose_route()) {{
        if (!is_method("ACK")) t_reply("481", "No Dialog");
        exit;
    }}
    if (is_method("REGISTER")) {{
        if (!pv_www_authenticate("{realm}", "{password}", "0") || $au != "{user}") {{
            www_challenge("{realm}", "1");
            exit;
        }}
        save("location");
        exit;
    }}
    if (is_method("INVITE|SUBSCRIBE")) record_route();
    if ($si != "{callee_host}" && !is_method("ACK")) {{
        if (!pv_proxy_authenticate("{realm}", "{password}", "0") || $au != "{user}") {{
            proxy_challenge("{realm}", "1");
            exit;
        }}
        consume_credentials();
    }}
    if (has_totag()) {{
        t_relay();
    }} else if ($si != "{callee_host}") {{
        $du = "sip:{callee}";
        t_relay();
    }} else if (lookup("location")) {{
        t_relay();
    }} else {{
        t_reply("404", "Not Found");
    }}
}}
"""


class Kamailio:
    """One process at `host`. Calls of those who have the password go to `callee`; what comes from there goes to who is
    registered."""

    def __init__(self, folder: Path, host: str, callee: Address, algorithm: str = "MD5") -> None:
        self.address: Address = (host, free_port(host))
        self._file = folder / "kamailio.cfg"
        self._file.write_text(
            CONFIG.format(
                listen=hostport(self.address),
                algorithm=algorithm,
                realm=REALM,
                user=USER,
                password=PASSWORD,
                callee=hostport(callee),
                callee_host=callee[0],
            )
        )
        self._output = folder / "kamailio.out"
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"sip:{hostport(self.address)}"

    def start(self) -> Kamailio:
        program = shutil.which("kamailio", path=_PATH)
        assert program is not None
        run = self._folder / "kamailio.run"
        run.mkdir()
        command = [program, "-DD", "-E", "-f", str(self._file), "-m", "16", "-M", "4"]
        command += ["-w", str(self._folder), "-Y", str(run), "-P", str(run / "pid")]
        with self._output.open("wb") as output:
            self.process = spawn(command, stdout=output, stderr=subprocess.STDOUT, cwd=self._folder)
        until(self._listens, lambda: f"kamailio listens\n{self.said()}")
        return self

    def _listens(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"kamailio ended with {self.process.returncode}\n{self.said()}")
        port = f":{self.address[1]:04X}"
        rows = (line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:])
        return any(row[1].endswith(port) for row in rows)

    def said(self) -> str:
        return self._output.read_text("utf-8", "replace")[-6000:]

    def close(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.terminate()  # it takes its children along
                try:
                    self.process.wait(5)
                except subprocess.TimeoutExpired:
                    self.process.kill()
            self.process.wait()
