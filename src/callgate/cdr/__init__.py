"""What is kept for good: the audit log now; call records, outbox and minute statistics from step 5 on."""
