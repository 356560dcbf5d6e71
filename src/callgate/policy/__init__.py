"""The contract: limits as data, claims that ask for everything at once, the profiles that ship, number verdicts.

Pure: no I/O, no clock. What keeps the live counts (`store/`) fills in the protocol of `ledger`.
"""
