"""The few calls that need two sides of their own: forwards that the gate makes.

The gate's own endpoint (`endpoint`) stands behind the proxy as a PBX would: a call in reaches it like any target, and
what it sends out is a call like any other. So limits, failover, credentials, records, probes and late answers are those
of the proxy, on both sides, and this room holds nothing but the joint: which dialog belongs to which (`forward`), and
how a message of one reads in the other (`compose`).
"""
