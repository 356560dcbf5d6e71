"""CallGate: a SIP proxy between a PBX and a carrier trunk that keeps calls inside the carrier's contract."""

__version__ = "0.1.0"
