"""Texts that nobody may show to others, and texts that look as odd and are honest."""

# ruff: noqa: RUF001 - the look-alikes are meant

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
_OF_DIRECTION = [0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_INVISIBLE = [
    *(0xAD, 0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x200B, 0x200C, 0x200D, 0x2028, 0x2029),
    *(*range(0x2060, 0x2066), *range(0x206A, 0x2070), 0x2800, 0x3164, *range(0xFE00, 0xFE10), 0xFEFF, 0xFFA0, 0xFFF0),
    *(0xFFF8, 0xFFF9, 0xFFFA, 0xFFFB, 0xFFFC, 0x13430, 0x1343F, 0x13441, 0x16FE4, 0x1BCA0, 0x1BCA3, 0x1D159, 0x1D173),
    *(0x1D17A, 0xE0000, 0xE0001, *range(0xE0020, 0xE0080, 7), 0xE007F, 0xE0080, 0xE0100, 0xE01EF, 0xE0FFF),
]
_NOBODYS = [0xE000, 0xF8FF, 0xFDD0, 0xFDEF, 0xFFFE, 0xFFFF, 0x1FFFE, 0xF0000, 0x10FFFD, 0x10FFFF]
_ALONE = [chr(each) for each in (*_CONTROLS, *_OF_DIRECTION, *_INVISIBLE, *_NOBODYS)]
_IN_NO_EMOJI = [
    *("a\u200db", "👍\u200d", "\u200d👍", "👍\u200da", "👍\u200d\u200d👍", "1\ufe0f", "1\ufe0fa", "*\ufe0f\u20dd"),
    *(
        "❤\ufe0f\ufe0f",
        "❤\ufe0f\ufe0e",
        "❤\ufe0e\ufe0f",
        "★\ufe0f",
        "👍🏽\ufe0f",
        "☂\ufe0e\u200d❤",
        "か\ufe00",
        "葛\U000e0100",
    ),
    *("می\u200cخواهم", "क्\u200dष", "🏴\U000e0067", "🏴\U000e0067\U000e0062\U000e007f", "🏴\U000e007f", "🇰\u200d🇿"),
    # A flag that Unicode defines but does not recommend: of Texas. Devices show it as a black one.
    "🏴" + "".join(chr(0xE0000 + ord(letter)) for letter in "ustx") + "\U000e007f",
    "a" + "".join(chr(0xE0000 + ord(letter)) for letter in "pay Mallory"),
]

HIDDEN = [*_ALONE[::7], *(f"rent{each}42" for each in _ALONE), *(f"Ann{each}" for each in _ALONE[::7]), *_IN_NO_EMOJI]

BLANK = ["\u00a0", "\u2003\u3000", "\u1680 ", " \u0301", "\u0301\u0302", "\u20dd", "\u0903"]
"""Where something has to show, these do not."""

HONEST = [
    *(
        "Жалақы, қараша",
        "Ғабит Әлі",
        "naïve e\u0301te\u0301 № 7",
        "שכר דירה",
        "إيجار نوفمبر",
        "किराया",
        "ค่าเช่า",
        "ជួល",
        "မြန်မာ",
    ),
    *("월세", "家賃", "a\u00a0b", "a\u3000b", "a\u2009b", "1 000 ₸", "½ × ∞ ≤ ☃ ★", "\u05d0\u05bc\u05b8"),
    *("a\U0003fffd", "\U000323b0", "\U0001faea"),  # the first two have not been assigned, the third not long ago
    *("👨‍👩‍👧", "❤️", "❤", "1️⃣", "#️⃣", "🏳️‍🌈", "🏴‍☠️", "👩🏽‍💻", "☂︎", "🇰🇿", "👁️‍🗨️", "🧑🏽‍❤️‍💋‍🧑🏿", "🐦‍⬛"),
    *("⛓️‍💥", "©️", "👍🏽"),
    *("🏴" + "".join(chr(0xE0000 + ord(letter)) for letter in of) + "\U000e007f" for of in ("gbeng", "gbsct", "gbwls")),
]
