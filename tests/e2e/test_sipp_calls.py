from __future__ import annotations
import pytest
from tests.e2e.net import NUMBER, DID, Net, UNLIMITED
from tests.e2e.sipp import Sipp
from tests.e2e.gate import Gate

PAIRS = [("uac-hangs-up","uas-answers"),("uac-is-hung-up-on","uas-hangs-up"),("uac-cancels","uas-is-cancelled"),("uac-hears-busy","uas-is-busy"),("uac-re-invites","uas-re-invites")]

@pytest.mark.parametrize(("t1","t2"), [("udp","udp"),("tcp","udp"),("udp","tcp"),("tcp","tcp")])
@pytest.mark.parametrize("inbound", [False, True])
@pytest.mark.parametrize("pair", PAIRS, ids=lambda p:p[0])
def test_x(net: Net, t1: str, t2: str, inbound: bool, pair: tuple[str,str], tmp_path) -> None:
    gate_host = net.host(1)
    uac, uas = pair
    if inbound:
        callee = Sipp(tmp_path, uas, net.host(2), transport=t2)
        gate = net.add(Gate(tmp_path, gate_host, trunks={"carrier": {"gateways": ["sip:%s:5060%s" % (net.host(3), ";transport=tcp" if t1=="tcp" else "")]}},
           keys={"acme": {"sources": [net.host(2)], "pbx": callee.uri, "numbers": [DID], "limits": UNLIMITED}}))
        caller_host, number = net.host(3), DID
    else:
        callee = Sipp(tmp_path, uas, net.host(3), transport=t2)
        gate = net.add(Gate(tmp_path, gate_host, trunks={"carrier": {"gateways": [callee.uri]}},
           keys={"acme": {"sources": [net.host(2)], "pbx": f"sip:{net.host(2)}:5070", "numbers": [DID], "limits": UNLIMITED}}))
        caller_host, number = net.host(2), NUMBER
    net.add(callee).start()
    gate.run()
    caller = net.add(Sipp(tmp_path, uac, caller_host, transport=t1, to=gate.address, number=number)).start()
    print(caller.done())
    print(callee.done())
    print(gate.line("call"))
