"""Live state behind the protocol of `policy.ledger`: in memory now, shared by several gates later."""
