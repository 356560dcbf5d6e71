"""The config: its schema, reading it, and every fault in it with a line and a remedy."""

from callgate.config.addresses import HostPort, IPNetwork, ListenUri, SipPeer
from callgate.config.faults import ConfigError, Fault
from callgate.config.load import dial_rules, effective_limits, load_config, mode_of, places_of, state_dir_of
from callgate.config.profiles import load_profile
from callgate.config.schema import Config, Key, KeyNumber, Listener, Log, Trunk
from callgate.config.values import Numbers

__all__ = [
    "Config",
    "ConfigError",
    "Fault",
    "HostPort",
    "IPNetwork",
    "Key",
    "KeyNumber",
    "ListenUri",
    "Listener",
    "Log",
    "Numbers",
    "SipPeer",
    "Trunk",
    "dial_rules",
    "effective_limits",
    "load_config",
    "load_profile",
    "mode_of",
    "places_of",
    "state_dir_of",
]
