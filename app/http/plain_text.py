"""
Text that people show to others: what of Unicode it may hold. Pure.

Refused is what nobody sees, and what changes the place of what others see: a reference that ends in U+202E turns the
line behind it around, two names that differ by U+200B look alike, and tag characters hide whole sentences. These are
the categories Cc, Cf, Cs, Co, Zl and Zp, the noncharacters, whatever has Default_Ignorable_Code_Point
(https://www.unicode.org/reports/tr44/), and a few letters and symbols without ink. Characters that Unicode has not
assigned yet are allowed: people's phones are newer than this list.

Joiners and variation selectors are allowed where they build an emoji (https://www.unicode.org/reports/tr51/), and tags
in the three flags that Unicode recommends: elsewhere they show nothing. So Persian and Indic words are written without
U+200C and U+200D here.
"""

import re
from unicodedata import category

# Categories and properties as of Unicode 17, without asking `unicodedata`, which is as old as Python.
_HIDDEN = (
    "0000-001F 007F-009F"  # controls
    " 00AD 034F 061C 115F-1160 17B4-17B5 180B-180F 200B-200F 2028-202E 2060-206F 3164 FE00-FE0F FEFF FFA0 FFF0-FFFB"
    " 1BCA0-1BCA3 1D173-1D17A E0000-E0FFF"  # ignorable by default, line and paragraph separators
    " 0600-0605 06DD 070F 0890-0891 08E2 110BD 110CD 13430-1343F"  # other formats
    " D800-F8FF F0000-10FFFF"  # surrogates, private use
    " FDD0-FDEF FFFE-FFFF 1FFFE-1FFFF 2FFFE-2FFFF 3FFFE-3FFFF 4FFFE-4FFFF 5FFFE-5FFFF 6FFFE-6FFFF 7FFFE-7FFFF"
    " 8FFFE-8FFFF 9FFFE-9FFFF AFFFE-AFFFF BFFFE-BFFFF CFFFE-CFFFF DFFFE-DFFFF EFFFE-EFFFF"  # noncharacters
    # Without ink: the blank of Braille, Egyptian, Khitan and music, and what stands for an object that is not there.
    " 2800 FFFC 13441-13442 16FE4 1D159"
)
# Extended_Pictographic; above U+1F000 a little more, where the emoji of coming years will be as well.
_PICTURES = (
    "00A9 00AE 203C 2049 2122 2139 2194-2199 21A9-21AA 231A-231B 2328 23CF 23E9-23F3 23F8-23FA 24C2 25AA-25AB 25B6"
    " 25C0 25FB-25FE 2600-2604 260E 2611 2614-2615 2618 261D 2620 2622-2623 2626 262A 262E-262F 2638-263A 2640 2642"
    " 2648-2653 265F-2660 2663 2665-2666 2668 267B 267E-267F 2692-2697 2699 269B-269C 26A0-26A1 26A7 26AA-26AB"
    " 26B0-26B1 26BD-26BE 26C4-26C5 26C8 26CE-26CF 26D1 26D3-26D4 26E9-26EA 26F0-26F5 26F7-26FA 26FD 2702 2705"
    " 2708-270D 270F 2712 2714 2716 271D 2721 2728 2733-2734 2744 2747 274C 274E 2753-2755 2757 2763-2764 2795-2797"
    " 27A1 27B0 27BF 2934-2935 2B05-2B07 2B1B-2B1C 2B50 2B55 3030 303D 3297 3299 1F000-1F1E5 1F200-1F3FA 1F400-1FAFF"
    " 1FC00-1FFFD"
)


def _class(ranges: str) -> str:
    """The inside of a character class of these code points, which can be written between brackets of a pattern."""
    return "".join("-".join(f"\\U{int(end, 16):08X}" for end in each.split("-")) for each in ranges.split())


_PICTURE = rf"[{_class(_PICTURES)}](?:\uFE0F|[{_class('1F3FB-1F3FF')}])?"  # in colour, or with a tone of skin
_IN_BLACK_AND_WHITE = rf"[{_class(_PICTURES)}]\uFE0E"
_KEY = r"[0-9#*]\uFE0F\u20E3"
_FLAG = "\U0001f3f4(?:{})\U000e007f".format(  # of England, Scotland and Wales: `gbeng` and so on, written in tags
    "|".join("".join(chr(0xE0000 + ord(letter)) for letter in region) for region in ("gbeng", "gbsct", "gbwls"))
)
_EMOJI = rf"{_FLAG}|{_IN_BLACK_AND_WHITE}|{_PICTURE}(?:\u200D{_PICTURE})*|{_KEY}"

# Latin, Greek, Cyrillic and their neighbours: nearly all texts, at a glance.
_usual = re.compile(r"[ -~\u00A0-\u00AC\u00AE-\u034E\u0350-\u05FF]*")
_emoji_or_seen = re.compile(f"(?:{_EMOJI}|[^{_class(_HIDDEN)}])*")


def fault_of(text: str) -> str | None:
    """What is wrong with a text that others are to read, in a sentence for whoever sent it; None if nothing is."""
    if _usual.fullmatch(text):
        return None
    seen = _emoji_or_seen.match(text)
    if seen is None or seen.end() == len(text):
        return None
    place, found = seen.end() + 1, ord(text[seen.end()])
    return (
        "Expected text without control, invisible or direction-changing characters;"
        f" found U+{found:04X} at position {place}."
    )


def shows(text: str) -> bool:
    """Whether a text without a fault shows something: spaces don't, nor do marks without a letter to stand on."""
    return any(category(each)[0] not in "ZM" for each in text)
