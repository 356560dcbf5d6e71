"""Reports from the records: SLA, monthly statement, claim pack, replay.

Empty until a later step. It reads `cdr` and uses `policy`.
"""
