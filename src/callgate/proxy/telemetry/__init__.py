"""What is told, counted and kept: alerts, meters, records."""
