"""What a mail server's refusal is about: the recipient, whom nobody can reach, or us, which can be mended."""

import re

from aiosmtplib import SMTPResponseException

# An enhanced status code (RFC 3463) begins the text (RFC 2034); qmail and its kin put it behind, as `(#5.7.1)`.
_ENHANCED = re.compile(r"(?:\A\s*|\(#)([245]\.\d{1,3}\.\d{1,3})(?![\d.])")

# The codes that speak of the recipient and of nothing else: no such mailbox or domain, moved, disabled. Not among them
# are 5.1.0 and 5.2.0, which say nothing certain (Postfix and Exchange give them for senders), 5.2.2, which is a full
# mailbox to some and the sender's quota to others, 5.2.3, by which Google means a message that is too large, 5.4.1 and
# 5.7.1, which are no right to relay as often as they are Exchange's and Yandex's "no such user".
_RECIPIENT = {"5.1.1", "5.1.2", "5.1.3", "5.1.4", "5.1.6", "5.1.10", "5.2.1"}
# What takes even such a code back: Postfix gives the code for what another server said to its probe, and Google gives
# 5.2.1 for a recipient who gets too much mail at the moment.
_TAKEN_BACK = r"\bsenders?\b|\bundeliverable address|\brate\b"

# RFC 7504 has a code for a domain that takes no mail.
_TAKES_NO_MAIL = 556

# Without an enhanced code 550 is anything: RFC 5321 has "mailbox not found, no access, or command rejected for policy
# reasons" for it. So it is the words that count, and only those of Postfix, Exim, sendmail, Exchange, mail.ru, Yahoo
# and others for a recipient who does not exist.
_WHO = r"(?:user|recipient|mailbox|addressee|person|local[ -]part)"
_ALONE = r"\b(?!\s(?:agent|domain|host|name|server|service|type)\b)"
_GONE = r"(?:unknown|not (?:found|known)|non-?existent|(?:does not|doesn.?t|do not|not|no longer) exists?)\b"
_NOBODY = re.compile(
    rf"\b(?:no such|unknown|unrecogni[sz]ed|non-?existent) (?:(?:local|virtual|e-?mail) )?(?:{_WHO}|address){_ALONE}"
    rf"|\binvalid (?:recipient|mailbox|addressee){_ALONE}"
    rf"|\b(?:{_WHO}|e-?mail (?:account|address))(?: address)? (?:is |was )?{_GONE}"
    r"|\bmailbox (?:is )?unavailable\.?(?: [\[(][^\])]*[\])])?$"  # with more behind it, it is the rest that counts
    r"|\brecipient (?:address )?rejected:? unknown\b(?! \w)"
    rf"|\b(?:{_WHO}|account|address) (?:that )?you (?:tried|are trying) to (?:reach|contact) {_GONE}"
    rf"|\bno (?:{_WHO}|account|one)(?: here)? by th(?:at|is) name\b|\bno mailbox here\b"
    r"|\bnot a (?:valid|known) (?:user|recipient|mailbox)\b"
    r"|\buser (?:does not|doesn.?t) have an? \S+\.\w+ account\b",
    re.IGNORECASE,
)
# Words beside these that make them doubtful: they are about our side, or about today.
_DOUBTFUL = re.compile(
    rf"{_TAKEN_BACK}|\b(?:sending|outgoing|outbound|from|return|client|service|yours?)\b"
    r"|\b(?:helo|ehlo|ptr|r?dns|spf|dkim|dmarc|ip|smtp)\b"
    r"|\brelay(?! recipient table)|\b(?:auth|log ?in|password|credential|verif|suspend|bann|block|black|white|reputat)"
    r"|\b(?:quota|limit|exceed|full|storage|too many|polic|spam|dnsbl|rbl|listed|access|den(?:y|ied)|prohibit|permi)"
    r"|\b(?:not allowed|credit|pay|paid|fund|billing|subscri|licen[cs]|expir|later|temporar|try again|gr[ae]y|mainten)",
    re.IGNORECASE,
)
_TAKES_BACK = re.compile(_TAKEN_BACK, re.IGNORECASE)

# "No such user" is said in a line or two. More is not read through.
_WORDS_MAX_CHARACTERS = 2_000


def is_about_recipient(answer: SMTPResponseException, *, sender: str) -> bool:
    """
    Whether the answer says that this recipient can't get mail, whoever asks and whenever.

    Where that is not certain it is not so: a message that is tried in vain costs less than one that is lost. `sender`
    is our own address, since a server may also refuse to know that one.
    """
    if answer.code // 10 != 55:  # RFC 5321, 4.2.1: x5z is about the receiving mail system, x3z about logins
        return False
    if sender and sender.casefold() in answer.message.casefold():
        return False
    # An address may be made of any words, and so may a link.
    words = " ".join(word for word in answer.message.split() if "@" not in word and "://" not in word)
    if found := enhanced_code(answer):
        return found in _RECIPIENT and not _TAKES_BACK.search(words)
    if len(words) > _WORDS_MAX_CHARACTERS:
        return False
    says_so = answer.code == _TAKES_NO_MAIL or _NOBODY.search(words)
    return bool(says_so) and not _DOUBTFUL.search(words)


def enhanced_code(answer: SMTPResponseException) -> str | None:
    """Its enhanced status code, such as 5.1.1, if it has one."""
    found = _ENHANCED.search(answer.message)
    return found[1] if found else None
