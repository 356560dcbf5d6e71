"""`callgate dial --why`: a verdict in words that a person in an office understands, in English and Japanese."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Literal

from callgate.numbers import JAPAN, Number
from callgate.policy.dial import CLOSED, LISTED, TRUSTED, DialVerdict

Language = Literal["en", "ja"]
Both = tuple[str, str]
"""(English, Japanese)."""

WHAT: Mapping[str, Both] = {
    "emergency": ("an emergency call", "緊急通報"),
    "emergency_suspect": (
        "it looks like an emergency call with something in front or in disguise",
        "緊急通報の前に余分な数字が付いたもの、または緊急通報らしい文字列",
    ),
    "foreign_emergency": ("the emergency number of another country", "外国の緊急通報番号"),
    "1xy": ("a service number of the telephone network (1XY)", "電話網のサービス番号(1XY)"),
    "three_digit": ("a number of three digits", "3桁の番号"),
    "carrier_select": (
        "a prefix that chooses another telephone company (00XY)",
        "ほかの電話会社を選ぶ番号(00XY、事業者設備識別番号)",
    ),
    "premium": ("a premium-rate number (0990)", "情報料のかかる番号(0990)"),
    "televote": ("a televoting number (0180)", "テレドームなどの番号(0180)"),
    "message_dial": ("a message dial number (0170)", "伝言ダイヤルの番号(0170)"),
    "navi_dial": ("a Navi Dial number (0570)", "ナビダイヤル(0570)"),
    "toll_free": ("a toll-free number (0120, 0800)", "着信課金の番号(0120・0800、フリーダイヤルなど)"),
    "sharp_code": ("a service code with # or *", "# や * の付くサービス番号"),
    "special_connection": ("a number of a specially connected network (091)", "特定接続電話番号(091)"),
    "domestic_fixed": ("a fixed line in Japan", "国内の固定電話"),
    "domestic_mobile": ("a mobile phone in Japan", "国内の携帯電話"),
    "ip_phone_050": ("an IP phone in Japan (050)", "IP電話(050)"),
    "fmc": ("a fixed-mobile number in Japan (0600)", "FMC電話番号(0600)"),
    "m2m": (
        "a data line of a machine, not a telephone (020)",
        "データ通信用の番号で、電話ではありません(020)",
    ),
    "pager": ("a pager (0204)", "無線呼出し(0204)"),
    "international_fixed": ("a fixed line abroad", "海外の固定電話"),
    "international_mobile": ("a mobile phone abroad", "海外の携帯電話"),
    "international_satellite": ("a satellite phone", "衛星電話"),
    "international_premium": ("a premium-rate number abroad", "海外の情報料のかかる番号"),
    "international_toll_free": ("a toll-free number abroad", "海外の着信課金番号"),
    "international": (
        "a number abroad; whether fixed or mobile can't be told",
        "海外の番号(固定電話か携帯電話かは判別できません)",
    ),
    "private": ("an extension of a private network", "内線など私設網の番号"),
    "service_urn": ("the name of a service, not a number", "サービスの名前で、電話番号ではありません"),
    "sip_uri": ("a SIP address, not a number", "SIPアドレスで、電話番号ではありません"),
    "unknown": ("it fits no part of the numbering plan", "番号計画のどれにも当てはまりません"),
    "invalid": ("it can't be read as a telephone number", "電話番号として読み取れません"),
}

RULES: Mapping[str, Both] = {
    "K-X1+EMG": (
        "Emergency calls are not carried on this trunk. The PBX is told so at once and must take another line.",
        "この回線では緊急通報を扱えません。PBXにはすぐに知らせるので、別の回線から発信させてください。",
    ),
    "EMG-SUSPECT": (
        "Nobody can say where this call would end, so that it is treated like an emergency call.",
        "どこにつながるか分からないため、緊急通報と同じ扱いにします。",
    ),
    "K-X1": (
        "The contract does not carry numbers of three digits or 1XY.",
        "契約上、3桁番号と1XYには発信できません。",
    ),
    "K-X2": (
        "The contract does not carry 0120, 0800, 0570, 0990, 0170 and 0180.",
        "契約上、0120・0800・0570・0990・0170・0180には発信できません。",
    ),
    "K-X3": (
        "The contract does not carry calls by way of another telephone company.",
        "契約上、ほかの電話会社を経由する発信(接続番号)はできません。",
    ),
    "K-D": (
        "The contract lists what it carries, and this is not on the list.",
        "契約で発信できる番号の種類が決まっていて、この番号は含まれていません。",
    ),
    "N2": ("Without a telephone number there is nobody to call.", "電話番号でないため、発信できません。"),
}

DO: Mapping[str, Both] = {
    "emergency": (
        "Give the PBX another line for 110, 118 and 119. In an emergency use a mobile or fixed phone.",
        "110・118・119用に別の回線をPBXに設定してください。緊急時は携帯電話か固定電話をお使いください。",
    ),
    "emergency_suspect": (
        "Look at the PBX's dial plan: does the digit for an outside line stay in front of the number?",
        "PBXの発信設定を確認してください(外線発信の「0」などが残っていませんか)。",
    ),
    "foreign_emergency": (
        "In Japan dial 110 (police), 119 (fire, ambulance) or 118 (coast guard).",
        "日本では110(警察)、119(消防・救急)、118(海上保安庁)です。",
    ),
    "toll_free": (
        "Dial the ordinary number of the company, or use a mobile or fixed phone.",
        "相手先の一般の電話番号にかけるか、携帯電話・固定電話をお使いください。",
    ),
    "navi_dial": (
        "Dial the ordinary number of the company, or use a mobile or fixed phone.",
        "相手先の一般の電話番号にかけるか、携帯電話・固定電話をお使いください。",
    ),
    "carrier_select": (
        "Dial without the prefix, and turn ACR or LCR off in the PBX.",
        "先頭の番号を付けずにかけてください。PBXのACR/LCR(自動選択)機能は切ってください。",
    ),
    "invalid": ("Look at the number again.", "番号をもう一度確認してください。"),
    "unknown": (
        "Look at the number again; is the area code there?",
        "番号を確認してください(市外局番は付いていますか)。",
    ),
}
"""What a person can do where a number of the class is blocked."""

LABELS: tuple[Both, ...] = (
    ("What it is", "番号の種類"),
    ("What happens", "結果"),
    ("Why", "理由"),
    ("How it was read", "読み取り方"),
    ("What to do", "対処"),
)

PHRASES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), japanese)
    for pattern, japanese in (
        (r"separators left out", "区切りの記号や空白を除きました"),
        (r"(\d+) taken off \(caller id prefix\)", r"\1(発信者番号の通知・非通知)を外しました"),
        (r"(\d+) taken off \(before a carrier prefix\)", r"\1(電話会社の固定の解除)を外しました"),
        (r"(\d+) read as \+", r"国際電話の\1を+と読みました"),
        (r"\+(\d+) made national", r"+\1を国内の番号に直しました"),
        (r"(\d+) without a plus read as \+\d+", r"先頭の\1を+\1と読みました"),
        (r"carrier prefix (\d+)(?: \((.*)\))?", r"電話会社を選ぶ番号 \1 \2"),
        (r"Unicode forms made plain", "全角などの文字を半角に直しました"),
        (r"cut at the pause", "ポーズ記号から後ろを除きました"),
        (r"closing # left out", "末尾の#を除きました"),
        (r"password left out", "パスワード部分を除きました"),
        (r"parameters left out", "付加パラメータを除きました"),
        (r"tel: URI", "tel: 形式の番号です"),
        (r"phone-context (\+\d+) put in front", r"phone-context の \1 を先頭に付けました"),
        (r"phone-context is a domain: private number", "phone-context がドメイン名なので、内線番号です"),
        (r"trunk prefix behind the country code left out", "国番号の後の市外発信用の数字を除きました"),
        (r"(.+) is on the block list of (.+)", r"\2 の拒否リストに \1 があります"),
        (r"(.+) is on the allow list of (.+)", r"\2 の許可リストに \1 があります"),
        (r"(.+) is on the trusted list of (.+)", r"\2 の信頼リストに \1 があります"),
        (r"not on the allow list of (.+), which is closed", r"\1 の許可リストにない番号は発信できません"),
        (r"(.+) is not carried under this contract", r"契約上、\1 には発信できません"),
        (r"(.+) is carried under this contract", r"契約上、\1 に発信できます"),
        (r"no digits", "数字がありません"),
        (r"too short", "桁が足りません"),
        (r"incomplete: a number with (\d+) has (.+) digits", r"桁が足りません。\1 の番号は \2 桁です"),
        (r"too long: a number with (\d+) has (.+) digits", r"桁が多すぎます。\1 の番号は \2 桁です"),
        (r"no number begins with (\d+)", r"\1 で始まる番号はありません"),
        (r"neither 0 nor \+ in front", "先頭が 0 でも + でもありません"),
        (r"(.+) is not a digit", r"数字でない文字があります(\1)"),
        (r"invisible or control character (.+)", r"目に見えない文字があります(\1)"),
        (r"digit of another script (.+)", r"ほかの文字体系の数字があります(\1)"),
        (r"not UTF-8", "文字コードがUTF-8ではありません"),
        (r"more than (\d+) (?:digits|bytes)", r"長すぎます(\1 を超えています)"),
        (r"no country has the code (.+)", r"国番号 \1 はありません"),
        (r"no country code begins with 0", "0 で始まる国番号はありません"),
        (
            r"(\+\S+) is too (?:short|long) for an international number",
            r"\1 は国際電話の番号として桁数が合いません",
        ),
        (r"a number of country code (\d+) has (\d+) digits", r"国番号 \1 の番号は国番号を含めて \2 桁です"),
        (r"prefixes nested more than (\d+) deep", r"先頭に付く番号が \1 重を超えています"),
        (r"a URI inside another", "アドレスの中に別のアドレスがあります"),
        (r"more than one @", "@ が2つ以上あります"),
        (r"more than one phone-context", "phone-context が2つ以上あります"),
        (
            r"phone-context is neither \+ and digits nor a domain",
            "phone-context が国番号でもドメイン名でもありません",
        ),
        (r"phone-context contradicts a number with \+", "phone-context が番号と矛盾しています"),
        (r"a parameter that can not be read", "読み取れないパラメータがあります"),
        (r"not a sip, sips, tel or urn URI", "sip・sips・tel・urn のどの形式でもありません"),
        (r"not a service URN", "サービスのURNではありません"),
        (r"a % without two hex digits", "% の後に16進数2桁がありません"),
        (r"a key or sign among the digits", "数字の間に記号があります"),
        (r"phone-context (\S+) contradicts .+", r"phone-context \1 が番号と矛盾しています"),
    )
)
"""What the judge says in English, in Japanese."""


def language(asked: str | None) -> Language:
    """The language asked for, else that of the locale (LC_ALL, LC_MESSAGES, LANG)."""
    if asked is None:
        names = (os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
        asked = next(filter(None, names), "")
    return "ja" if asked.startswith("ja") else "en"


def why(number: Number, verdict: DialVerdict, lang: Language) -> Iterator[tuple[str, str]]:
    """(label, text) of each line of the answer."""
    said = [
        _what(number, lang),
        _happens(verdict, lang),
        _because(number, verdict, lang),
        ("; " if lang == "en" else "、").join(_said(step, lang) for step in number.steps),
        _pick(DO[number.cls], lang)
        if not verdict.allowed and number.cls in DO and verdict.rule != LISTED
        else "",
    ]
    for label, text in zip(LABELS, said, strict=True):
        if text:
            yield _pick(label, lang), text


def _pick(both: Both, lang: Language) -> str:
    return both[lang == "ja"]


def _what(number: Number, lang: Language) -> str:
    text = _pick(WHAT[number.cls], lang)
    service = JAPAN.short_codes.get(number.canonical) if lang == "en" else None
    if service and number.cls in ("1xy", "emergency"):
        text += f": {service}"
    shown = number.canonical if number.canonical not in ("", number.dialled) else ""
    return f"{text} ({shown})" if shown else text


def _happens(verdict: DialVerdict, lang: Language) -> str:
    if verdict.allowed:
        return _pick(("the call goes out", "発信できます"), lang)
    return _pick((f"the call is refused with {verdict.code}", f"発信できません(応答 {verdict.code})"), lang)


def _because(number: Number, verdict: DialVerdict, lang: Language) -> str:
    rule = verdict.rule
    if rule in (LISTED, CLOSED, TRUSTED):
        text = _said(verdict.reason, lang)
    elif verdict.allowed:
        return (
            ""
            if not rule
            else _pick((f"the contract carries such numbers ({rule})", f"契約に含まれます({rule})"), lang)
        )
    elif rule in RULES:
        text = _pick(RULES[rule], lang)
    else:
        text = _pick(
            ("the contract's profile blocks such numbers", "契約のプロファイルで発信できない番号です"), lang
        )
    if number.note and not verdict.allowed:
        text += ("" if text.endswith((".", "。")) else ".") + f" {_said(number.note, lang)}"
    return f"{text} [{rule}]"


def _said(text: str, lang: Language) -> str:
    """A step, a note or a reason of the judge in this language; in English where it is not known."""
    if lang == "en":
        return text
    for pattern, japanese in PHRASES:
        if (found := pattern.fullmatch(text)) is not None:
            return found.expand(japanese).strip()
    return text
