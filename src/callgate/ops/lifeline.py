"""Ops ends when its gate does, however that ends: an ops left over would hold the port of the next one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with(gate_pid: int) -> None:
    """Have the kernel kill this process when its parent dies; exit now if that has happened already.

    The kernel looks at the thread that started this process, so the gate starts it from its main thread.
    """
    with contextlib.suppress(OSError, AttributeError):  # no such call here: end of file on stdin still tells
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != gate_pid:  # it died before the call: the signal will not come
        os._exit(0)


def end_at_eof(fd: int) -> None:
    """Exit as soon as `fd` ends: the gate closed its side of the pipe, or is gone.

    On a thread and without ceremony, so that neither a long page nor a slow reader delays it.
    """

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(fd, 4096):
                pass
        os._exit(0)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def ignore_signals_for_the_gate() -> None:
    """Ctrl-C and a hang-up go to the whole group and are the gate's to judge: /readyz tells of its drain."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
