"""RFC 3261 §16: validate, route, forward, fail over, CANCEL, record-route; the calls. No I/O, no clock."""
