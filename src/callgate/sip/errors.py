"""What can be wrong with bytes from the network."""


class Malformed(ValueError):
    """The other side sent what RFC 3261 does not allow. The text says what; it never quotes the message."""
