"""The few calls that need two sides of their own: forwards that the gate makes, masked numbers.

Empty until step 4. Like `proxy` it may import `sip`, `numbers` and `policy`, and no I/O.
"""
