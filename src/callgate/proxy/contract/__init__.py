"""What the contract holds calls to: tokens and turns, forwards, recordings, hold, suspension; and what goes past all of
it, emergency calls.
"""
