"""A carrier that suspends and a PBX that overloads, on loopback, for the demo and for tests.

They speak plain SIP over UDP with code of their own on purpose: transactions and dialogs here are not the
gate's, so that a fault in the gate's machinery is seen from outside instead of being repeated. Only the wire
(`callgate.sip`) is shared.
"""
