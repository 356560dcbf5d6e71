"""The control plane, a process of its own: `/metrics`, `/healthz`, `/readyz`, the admin API.

It reads the gate's shared memory, asks over the control socket, and takes nothing from the path of a call.
`python -m callgate.ops` is started and supervised by the gate.
"""
