"""The dialled strings of the contract's table, and every trap that we know."""

import pytest
from tests.numbers.support import KCT_NET, KX, STANDARD

from callgate.numbers import read_dialled, read_uri

CONTRACT = """
110, 119, 184110, tel:119;phone-context=+81 | emergency | blocked | K-X1+EMG
911 | foreign_emergency | blocked | K-X1+EMG
104, 171 | 1xy | blocked | K-X1
#7119 | sharp_code | blocked | K-D
0120123456, 0120-123-456, +81120123456, 1860120123456, 08001234567 | toll_free | blocked | K-X2
0570012345 | navi_dial | blocked | K-X2
0990512345 | premium | blocked | K-X2
00380312345678, 00770312345678 | carrier_select | blocked | K-X3
0312345678, +81312345678, 1840312345678, 0118123456, 0184221234 | domestic_fixed | allowed | K-C2
09012345678 | domestic_mobile | allowed | K-C6
05012345678 | ip_phone_050 | allowed | K-C1/C4/C5
01012125550100 | international_fixed | allowed | K-C3
"""

CLASSES = {
    "emergency": """
        110 118 119 186118 184186119 186-110 (110) 1-1-0 １１０ １１０# ①①⓪ 119# 119,,1 184-119p2 tel:110
        tel:119;phone-context=+81 tel:118;phone-context=example.com tel:186184118;phone-context=+81
        sip:110@gate sip:119@gate;user=phone sips:118@gate SIP:110@gate sip:%31%31%30@gate
        sip:110:pw@gate sip:110;phone-context=+81@gate;user=phone sip:1.1.9@gate tel:119;isub=1
        TEL:1-1-0 110;postd=pp1 urn:service:sos urn:service:sos.police urn:service:sos.fire
        urn:service:sos.marine URN:SERVICE:SOS urn:service:sos.ambulance sip:sos@gate sip:SOS@gate
        sip:sos.fire@gate sip:s%6Fs@gate sos tel:110;phone-context=+1 tel:110;phone-context=gate
        """,
    "emergency_suspect": """
        0110 0118 0119 9110 9118 9119 00110 184-0119 +81110 +81-118 +81119 01081110 010-81-119
        +810110 81119 +110 +119 010119 +81184110 +81-186-184-118 0033119 122-0033-110 #110 *119
        #119# *31#110 110*1 119#5 +81186184118 +81184118 tel:+81119 sip:+81110@gate sip:tel:110@gate
        sip:tel%3A119@gate 110+1 +81+81110 tel:110;phone-context=!! sip:110@gate@other
        """,
    "foreign_emergency": """
        911 112 999 000 184911 tel:911;phone-context=+81 +81911 +81112 0033911 9-1-1
        """,
    "1xy": """
        1 10 104 113 115 116 117 122 136 171 177 184 186 188 189 1041 122104 184104 186171
        12125550100 1234567 tel:120123456;phone-context=+81 +81104 +81171 tel:171;phone-context=+81
        tel:171;phone-context=+1 01081104
        """,
    "three_digit": "222 030 099 010 184222 +81222 tel:222;phone-context=+81 411",
    "carrier_select": """
        00 001 0033 00330312345678 0088-03-1234-5678 12200770312345678 184-0033-0312345678
        001-010-1-212-555-0100 0081312345678 0081-3-1234-5678 002120312345678 00910103123456
        0091200312345678 00330120123456 tel:00330312345678;phone-context=+81 +8100330312345678
        010810033031234567 0037612345 0077-7-12345 0033104 00112125550100
        """,
    "toll_free": """
        0120123456 ０１２０−１２３−４５６ 0120ー123ー456 (0120)123456 0120.123.456 0120/123/456 0120‐123‑456
        08001234567 0800-123-4567 +818001234567 010-81-120-123-456 01081120123456 +810120123456
        010810120123456 81120123456 810120123456 184186184-0120-123-456 +81(0)120-123-456
        tel:0120123456 tel:+81-120-123-456 tel:0120123456;phone-context=+81
        tel:0120123456;phone-context=+1 tel:0120123456;phone-context=example.com sip:0120123456@gate
        sip:%30120123456@gate 184+81120123456 sip:0120123456;phone-context=+81@gate;user=phone
        0120123456# 0120123456,,1 *31#0120123456 0120123456*1 01201234567 012012345 0800123456
        080012345678 +811840120123456 +81-186-0120-123-456 8112012345678 sip:tel:0120123456@gate
        sip:０１２０123456@gate 0120123456;isub=3
        """,
    "navi_dial": "0570012345 0570-012-345 +81570012345 186-0570-012345 05700123456",
    "premium": "0990512345 +81990512345 0990-512-345",
    "televote": "0180123456 +81180123456",
    "message_dial": "0170123456 +81170123456",
    "sharp_code": "#7119 #8000 #9110 *21 #31#0312345678 184#7119",
    "domestic_fixed": """
        0312345678 03-1234-5678 (03)1234-5678 03.1234.5678 ０３１２３４５６７８ 0３-1234-5678 +81312345678
        +81-3-1234-5678 +81(0)3-1234-5678 +810312345678 010-81-3-1234-5678 010810312345678
        1840312345678 1860312345678 184-186-03-1234-5678 184+81312345678 81312345678 tel:0312345678
        tel:+81-3-1234-5678 tel:312345678;phone-context=+81 tel:0312345678;phone-context=+81
        tel:1840312345678;phone-context=+81 sip:0312345678@gate sip:+81312345678@gate;user=phone
        sips:0312345678@gate sip:0312345678;isub=1@gate sip:%30312345678@gate 0312345678,,123
        0312345678p1 0312345678;ext=12 0312345678# tel:+81312345678;phone-context=+81 0118123456
        0184221234 0186221234 +81118123456 +81184221234 +81186221234 0220123456 0460123456
        0550123456 0770123456 0880123456 0980123456 0178123456 0182123456 0191123456 0576123456
        0993123456 0612345678 0422123456 0471234567 0429123456 0126712345 0499212345 0851212345
        0996912345 0186184118 0119876543 0991212345 0152123456 0289123456
        """,
    "domestic_mobile": """
        07012345678 08012345678 09012345678 06012345678 +819012345678 184-090-1234-5678
        +818012345678
        """,
    "ip_phone_050": "05012345678 +815012345678 050-1234-5678 18605012345678",
    "fmc": "06001234567",
    "m2m": "02012345678 02001234567890",
    "pager": "02041234567",
    "special_connection": "0910123456",
    "international_fixed": """
        01012125550100 +12125550100 +442079460000 +33142685300 184-010-1-212-555-0100 +390612345678
        tel:2125550100;phone-context=+1 tel:+1-212-555-0100 +82212345678 +861012345678 +911234567890
        """,
    "international_mobile": """
        +447911123456 010447911123456 +821012345678 +8613812345678 +33612345678 +61412345678
        +5511987654321
        """,
    "international_satellite": "+870773123456 010881612345678 +88213123456",
    "international_premium": "+19005550100 +979123456789",
    "international_toll_free": "+18005550100 +80012345678",
    "international": "+4512345678 +8216881234",
    "private": "tel:7042;phone-context=example.com tel:0312345678;phone-context=gate.example.com",
    "service_urn": "urn:service:counseling urn:service:test.sos",
    "sip_uri": "sip:alice@gate sip:conference.7@gate alice@gate sip:0120flower@gate",
    "unknown": "2345678 23456789 7042 0121234567 03012345678 04012345678 +2101234567 +9991234567",
    "invalid": """
        0 23 031234567 03123456789 0901234567 090123456789 0204123456789 + +0312345678 +1 +12
        +1212555010 +1840312345678 abc 0120FLOWER 03x12345678 03~12345678 sip:@ sip:@gate tel: urn:
        urn:x http://gate mailto:110 tel:alice sip:alice@gate;user=phone sip:tel:0312345678@gate
        sip:tel%3A0312345678@gate sip:0312345678@gate@other tel:0312345678;phone-context=
        tel:0312345678;phone-context=81 tel:0312345678;phone-context=+1
        tel:+81312345678;phone-context=+1 tel:0312345678;phone-context=+x
        tel:0312345678;phone-context=+81;phone-context=+1
        tel:612345678;phone-context=+39;phone-context=a.b %zz %4 03%0012345678 0312345678%00
        ٠٣١٢٣٤٥٦٧٨ 03१२345678 ½ 📞 0312345678📞 03Ⅳ12345678 03*12345678 0312#45678 +81+81312345678
        9999999999999999
        """,
}


def rows() -> list[tuple[str, str, str, str]]:
    found = []
    for line in CONTRACT.strip().splitlines():
        dialled, cls, verdict, rule = (part.strip() for part in line.split("|"))
        found += [(one, cls, verdict, rule) for one in dialled.split(", ")]
    return found


def classes() -> list[tuple[str, str]]:
    return [(dialled, cls) for cls, text in CLASSES.items() for dialled in text.split()]


@pytest.mark.parametrize(("dialled", "cls", "verdict", "rule"), rows())
def test_contracts_table(dialled: str, cls: str, verdict: str, rule: str) -> None:
    number = read_dialled(dialled)
    got = KCT_NET.judge(number)
    assert (number.cls, "allowed" if got.allowed else "blocked", got.rule) == (cls, verdict, rule)


@pytest.mark.parametrize(("dialled", "cls"), classes())
def test_class(dialled: str, cls: str) -> None:
    assert read_dialled(dialled).cls == cls


BLOCKED = {*KX, "service_urn", "sip_uri", "invalid"}


@pytest.mark.parametrize(("dialled", "cls"), [row for row in classes() if "@" in row[0] and ":" in row[0]])
def test_a_request_is_judged_like_what_is_typed(dialled: str, cls: str) -> None:
    assert read_uri(dialled.encode()).cls == cls


@pytest.mark.parametrize(("dialled", "cls"), classes())
def test_the_default_contract_blocks_these_classes_and_no_other(dialled: str, cls: str) -> None:
    verdict = STANDARD.judge(read_dialled(dialled))
    assert verdict.allowed is (cls not in BLOCKED)
    assert verdict.allowed == (verdict.code == 0)
    if not verdict.allowed:
        assert verdict.rule
