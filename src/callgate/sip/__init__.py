"""The wire: messages, URIs, header values, framing and the transaction tables (RFC 3261).

Knows no socket, no clock and no key. Bytes come in, bytes go out, time is passed in.
"""
