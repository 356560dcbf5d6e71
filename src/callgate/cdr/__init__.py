"""What is kept for good: call records in SQL, what waits for the database, the audit log."""
