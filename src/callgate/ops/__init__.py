"""The control plane, a process of its own: `/metrics`, `/healthz`, `/readyz`; later the admin API and alerts.

It reads the gate's shared memory and takes nothing from the path of a call. `python -m callgate.ops` is
started and supervised by the gate.
"""
