"""Call records, outbox, audit and minute statistics, in SQL, on a thread of their own.

Empty until step 5. Until then audit is an append-only table in `state_dir`, and a call ends as one log line.
"""
