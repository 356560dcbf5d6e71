"""Every key of the config file: its type, its default, its range. `docs/reference/config.md` explains them.

The schema knows features to come, so that a config written for them is refused as "not supported yet"
(`config.supported`) and never as a typing error. What one value can't tell alone is in `config.crosscheck`.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_validator,
    model_validator,
)

from callgate.config.addresses import HostPort, ListenUri
from callgate.config.routes import Day, Hours, RouteTarget, Zone
from callgate.config.values import (
    Advertise,
    Aor,
    Count,
    Date,
    EmergencyRoute,
    Entry,
    FilePath,
    HepServer,
    Host,
    Id,
    Listen,
    NameServer,
    Network,
    Number,
    Numbers,
    OneLine,
    Ops,
    Pbx,
    Peer,
    Seconds,
    Secret,
    SomeSeconds,
    Text,
    TimeOfDay,
    check_database,
)
from callgate.policy.dial import Lists
from callgate.policy.more import More
from callgate.policy.numberlist import Table
from callgate.policy.profile import LIMIT_FIELDS, Profile

Algorithm = Literal["SHA-256", "SHA-512-256", "MD5"]
Some = Annotated[int, Field(ge=1, le=1_000_000)]
Mode = Literal["enforce", "shadow"]
AT_MOST = Field(max_length=100)
"""Listeners and gateways travel by their place, in one octet of our Via branch and Record-Route."""
TrunkName = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
"""Empty: the only trunk there is; `load_config` fills it in."""


class Section(BaseModel):
    """A mapping of the file. Unknown keys are faults; `key:` with nothing behind it is the default."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_the_default(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        empty = {
            name
            for name, value in data.items()
            if value is None
            and name in cls.model_fields
            and cls.model_fields[name].default_factory is not None
        }
        return {name: value for name, value in data.items() if name not in empty} if empty else data


def _section(kind: type[Section]) -> Any:
    return Field(default_factory=kind)


def _list(*items: Any) -> Any:
    return Field(default_factory=lambda: items)


class Listener(Section):
    """One address to listen on; `advertise` is what others reach it by, where that differs."""

    uri: Listen
    advertise: Advertise | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return {"uri": data} if isinstance(data, str | ListenUri) else data

    @property
    def sent_by(self) -> HostPort:
        """Host and port for our Via and Record-Route."""
        if self.advertise is None:
            return HostPort(self.uri.host, self.uri.port)
        return HostPort(self.advertise.host, self.advertise.port or self.uri.port)


class Tls(Section):
    certificate: FilePath
    private_key: FilePath
    ca: FilePath | None = None
    verify_client: Literal["none", "optional", "required"] = "none"
    handshake_seconds: SomeSeconds = 5
    max_half_open_per_source: Some = 64


class Streams(Section):
    """Connections over TCP and TLS."""

    connections: Some = 10_000
    connections_per_source: Some = 1_000
    idle_seconds: SomeSeconds = 14_400
    message_seconds: SomeSeconds = 10


class Strangers(Section):
    """What is taken from addresses that are no key's and no trunk's."""

    messages_per_second: Some = 20
    messages_in_all: Some = 1_000
    connections: Some = 1_024
    connections_per_source: Some = 32
    seconds: SomeSeconds = 30


class DigestThrottle(Section):
    failures: Annotated[int, Field(ge=1, le=100)] = 10
    per_seconds: SomeSeconds = 10
    block_seconds: Seconds = 60


class Digest(Section):
    realm: Text = "callgate"
    algorithms: tuple[Algorithm, ...] = _list("SHA-256")
    nonce_seconds: SomeSeconds = 300
    secret: Secret | None = None
    throttle: DigestThrottle = _section(DigestThrottle)


class Registrar(Section):
    """What phones and PBXes of a key with `pbx: registered` get."""

    domains: tuple[Host, ...] = _list()
    expires_seconds: Annotated[int, Field(ge=60, le=86_400)] = 3600
    min_expires_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    contacts_per_user: Annotated[int, Field(ge=1, le=100)] = 20
    contacts_per_key: Some = 2000


class Probe(Section):
    interval_seconds: SomeSeconds = 300
    misses: Some = 3
    gap_seconds: SomeSeconds = 10


class Dns(Section):
    servers: tuple[NameServer, ...] = _list()
    timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 2000
    stale_seconds: Seconds = 3600


class AdminToken(Section):
    name: Text
    role: Literal["view", "operate"]
    token: Secret


class Admin(Section):
    tokens: tuple[AdminToken, ...] = _list()


class Webhook(Section):
    url: Secret
    secret: Secret
    events: tuple[Text, ...] = _list("cdr", "call.missed", "alert")
    keys: tuple[Id, ...] = _list()  # none: all
    allow_private: bool = False
    ca: FilePath | None = None
    timeout_seconds: SomeSeconds = 5
    retry_max_seconds: SomeSeconds = 30
    give_up_hours: SomeSeconds = 72


class Notify(Section):
    url: Secret
    severity: Literal["info", "warning", "critical"] = "warning"  # and worse
    keys: tuple[Id, ...] = _list()  # none: all


class Hep(Section):
    server: HepServer
    capture_id: Annotated[int, Field(ge=0, le=4_294_967_295)]
    password: Secret | None = None


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    full_numbers: bool = False


class Records(Section):
    keep_days: Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)] | None = None


class Credentials(Section):
    username: OneLine
    password: Secret
    realm: OneLine | None = None


class Register(Section):
    aor: Aor
    expires: Some = 3600


class TrunkTls(Section):
    ca: FilePath | None = None
    certificate: FilePath | None = None
    private_key: FilePath | None = None
    name: Text | None = None


class Health(Section):
    interval_seconds: Seconds = 30
    timeout_seconds: SomeSeconds = 4
    down_after: Some = 3
    up_after: Some = 2


class Journal(Section):
    """How much of calls that have ended is kept for `callgate explain`."""

    keep_hours: Annotated[float, Field(gt=0, le=8760, allow_inf_nan=False)] = 24
    max_megabytes: Annotated[int, Field(ge=16, le=1 << 20)] = 256


class MoreLimit(Section):
    """One further limit (`policy.more`): a window, a set, or different numbers in a window."""

    rule: Text
    per: Literal["key", "trunk", "did", "caller", "class"] = "key"
    direction: Literal["outbound", "inbound", "both"] | None = None
    of: tuple[Text, ...] = _list()
    calls: Count | None = None
    at_once: Count | None = None
    numbers: Count | None = None
    window_seconds: Annotated[float, Field(ge=1, le=31_536_000, allow_inf_nan=False)] | None = None
    calendar: Literal["day", "month"] | None = None
    utc_offset_hours: Annotated[float, Field(ge=-12, le=14, allow_inf_nan=False)] = 9

    @property
    def plain(self) -> More:
        """As the policy knows it."""
        values = self.model_dump(exclude={"direction"})
        return More(**values, direction=self.direction or ("inbound" if self.per == "did" else "outbound"))


class TrunkLimits(Section):
    """The limits of a trunk itself, over all its keys. A field that is not named, or null, is no limit."""

    outbound_cps: Count | None = None
    inbound_calls: Count | None = None
    forwarded_calls: Count | None = None
    lines: Count | None = None
    outbound_calls: Count | None = None
    calls: Count | None = None
    recordings: Count | None = None
    more: tuple[MoreLimit, ...] | None = ()

    @property
    def by_hand(self) -> dict[str, Any]:
        """The fields that the file names, and only those."""
        found = {name: getattr(self, name) for name in LIMIT_FIELDS if name in self.model_fields_set}
        if found.get("more") is not None:
            found["more"] = tuple([one.plain for one in found["more"]])
        return found


class Limits(TrunkLimits):
    """Limits set by hand. A field that is not named comes from the profile; null is "no limit"."""

    on_rate_exceeded: Literal["reject", "queue"] = "reject"
    queue_seconds: Seconds = 2.0
    on_recordings_exceeded: Literal["reject", "unrecorded"] = "reject"
    max_call_seconds: SomeSeconds | None = None
    redial_gap_seconds: Seconds | None = None
    hold_alert_seconds: SomeSeconds | None = None
    hold_release_seconds: SomeSeconds | None = None


class Dial(Section):
    """Lists of numbers that may be dialled or not; `default` is for what none of them names."""

    block: tuple[Entry, ...] = _list()
    allow: tuple[Entry, ...] = _list()
    trusted: tuple[Entry, ...] = _list()
    default: Literal["allow", "deny"] | None = None


class Trunk(Section):
    """One carrier contract: where its calls go, and what it asks."""

    gateways: Annotated[tuple[Peer, ...], AT_MOST]
    sources: tuple[Network, ...] = _list()
    profile: Text = "standard"
    numbering: Literal["japan", "any"] = "japan"
    dial: Dial = _section(Dial)
    emergency_route: EmergencyRoute | None = None
    emergency_code: Literal["503", "403", "404", "380"] = "503"
    credentials: Credentials | None = None
    register_: Register | None = Field(default=None, alias="register")
    tls: TrunkTls | None = None
    health: Health = _section(Health)
    try_seconds: Annotated[float, Field(gt=0, le=32, allow_inf_nan=False)] = 4
    retry_after_max: Seconds = 300
    upstream_503: Literal["500", "pass"] = "500"
    psap_callback: bool = False
    limits: TrunkLimits = _section(TrunkLimits)


class DigestUser(Section):
    username: Text
    password: Secret | None = None
    ha1: dict[Algorithm, Secret] | None = None


class SecretHeader(Section):
    name: Text
    value: Secret


class RouteStep(Section):
    """One place on a number's route."""

    to: RouteTarget
    ring_seconds: Annotated[float, Field(ge=0, le=180)] = 0.0
    busy: bool = False
    hours: Hours | None = None
    days: tuple[Day, ...] = _list()
    timezone: Zone = "Asia/Tokyo"

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return data if isinstance(data, dict | RouteStep) else {"to": data}


class QuietHours(Section):
    """T15: when the called party rests, by its own clock."""

    from_: TimeOfDay = Field(default="21:00", alias="from")
    to: TimeOfDay = "08:00"
    holidays: bool = False
    quiet_dates: tuple[Date, ...] = _list()
    free_dates: tuple[Date, ...] = _list()
    free_numbers: tuple[Number, ...] = _list()


class Watch(Section):
    """What raises an alert and refuses nothing, unless `hold` says so."""

    distinct_numbers: Some | None = 100
    distinct_seconds: SomeSeconds = 60
    hold: bool = False
    repeats: Annotated[int, Field(ge=2, le=1000)] | None = 20
    repeat_seconds: SomeSeconds = 600
    fax: bool = True


class KeyNumber(Section):
    """A DID of a key, or a range of them, with a route of its own if need be."""

    number: Number
    route: tuple[RouteStep, ...] | None = None

    @field_validator("route", mode="before")
    @classmethod
    def _one_step(cls, value: Any) -> Any:
        return value if value is None or isinstance(value, list | tuple) else [value]

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return {"number": data} if isinstance(data, str | Numbers) else data


class Key(Section):
    """One customer of the gate: who it is, where its PBX is, which contract it stands under."""

    sources: tuple[Network, ...] = _list()
    digest: tuple[DigestUser, ...] | None = None
    require: tuple[Literal["source", "digest", "tls", "header"], ...] = _list()
    tls_names: tuple[Text, ...] = _list()
    secret_header: SecretHeader | None = None
    pbx: Pbx | None = None
    numbers: tuple[KeyNumber, ...] = _list()
    caller_ids: tuple[Number, ...] | None = None
    trusted: bool = True
    trunk: TrunkName = ""
    dial: Dial = _section(Dial)
    recorders: tuple[Network, ...] = _list()
    mode: Mode | None = None
    limits: Limits = _section(Limits)
    quiet_hours: QuietHours | None = None
    consent: FilePath | None = None
    watch: Watch = _section(Watch)


class Config(Section):
    """The whole file, checked. Made by `load_config`."""

    listen: Annotated[tuple[Listener, ...], AT_MOST] = Field(
        default_factory=lambda: tuple(
            Listener(uri=ListenUri.parse(uri)) for uri in ("udp://127.0.0.1:5060", "tcp://127.0.0.1:5060")
        )
    )
    tls: Tls | None = None
    streams: Streams = _section(Streams)
    strangers: Strangers = _section(Strangers)
    digest: Digest = _section(Digest)
    ops: Ops = HostPort("127.0.0.1", 9060)
    database: Secret = SecretStr("sqlite:///callgate.db")
    store: Secret = SecretStr("memory")
    state_dir: FilePath | None = Field(default=Path("state"), validate_default=True)
    journal: Journal = _section(Journal)
    secret: Secret | None = None
    registrar: Registrar = _section(Registrar)
    probe: Probe = _section(Probe)
    drain_seconds: Seconds = 30
    dns: Dns = _section(Dns)
    admin: Admin = _section(Admin)
    webhooks: tuple[Webhook, ...] = _list()
    notify: tuple[Notify, ...] = _list()
    hep: Hep | None = None
    mode: Mode = "enforce"
    log: Log = _section(Log)
    records: Records = _section(Records)
    trunks: dict[Id, Trunk] = Field(default_factory=dict)
    keys: dict[Id, Key] = Field(default_factory=dict)

    _path: Path = PrivateAttr(default=Path())
    _profiles: dict[str, Profile] = PrivateAttr(default_factory=dict)
    _lists: dict[tuple[str, str], Lists] = PrivateAttr(default_factory=dict)
    _list_files: dict[Path, Table] = PrivateAttr(default_factory=dict)

    @field_validator("database")
    @classmethod
    def _known_database(cls, value: SecretStr) -> SecretStr:
        check_database(value.get_secret_value())
        return value

    @field_validator("store")
    @classmethod
    def _known_store(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text != "memory" and not text.startswith(("redis://", "rediss://")):
            raise ValueError("must be `memory` or `redis://…`")
        return value

    @property
    def path(self) -> Path:
        """The file that this was read from."""
        return self._path

    @property
    def database_url(self) -> str:
        """Where records go, the file of an SQLite database by its whole path."""
        url = self.database.get_secret_value()
        scheme, _, file = url.partition(":///")
        return f"{scheme}:///{self._path.absolute().parent / file}" if scheme == "sqlite" else url

    @property
    def ops_warning(self) -> str:
        """What is to be said of an `ops` that others than this machine reach; empty where there is none such."""
        if self.ops is None or ip_address(self.ops.host).is_loopback:
            return ""
        api = (
            ", and the tokens of the admin API go over the network in the clear" if self.admin.tokens else ""
        )
        return (
            f"`ops` http://{self.ops} is not on loopback and has no TLS: /metrics shows your keys to whoever reaches"
            f" it{api}; put a proxy with TLS before it, or see that only who may can reach it"
        )

    @property
    def profiles(self) -> Mapping[str, Profile]:
        """Trunk → its contract."""
        return self._profiles

    @property
    def lists(self) -> Mapping[tuple[str, str], Lists]:
        """("trunks", name) or ("keys", name) → the lists of numbers of its `dial`; only where there are some."""
        return self._lists

    @property
    def list_files(self) -> Mapping[Path, Table]:
        """The files of the lists, and what is in each."""
        return self._list_files
