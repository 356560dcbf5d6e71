"""The way to the carrier: its gateways and their health, credentials and registration there."""
