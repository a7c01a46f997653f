"""
Which kinds of phone numbers there are, and which may register.

Whoever registers has a code sent to a number of their choice. To a premium-rate or shared-cost number that costs the
operator a multiple, and whoever owns the number earns from it.
"""

from phonenumbers import (
    REGION_CODE_FOR_NON_GEO_ENTITY,
    PhoneNumber,
    PhoneNumberType,
    number_type,
    region_code_for_country_code,
)

# By the names of libphonenumber, in lower case.
_NAMES: dict[int, str] = {
    value: name.lower() for name, value in vars(PhoneNumberType).items() if isinstance(value, int) and value >= 0
}
# Of no country: satellite phones and the like (+870, +881, +882 …), dear whatever their type.
WORLDWIDE = "worldwide"
TYPES = (*sorted({*_NAMES.values()} - {"unknown"}), WORLDWIDE)

# What people have. Not `voip` and `personal_number`: an SMS seldom reaches them, anybody gets as many as they like, and
# the personal numbers of some countries (+44 70) are as dear as premium rate.
USUAL = "mobile,fixed_line_or_mobile,fixed_line"


def phone_type(number: PhoneNumber) -> str:
    """The type of a number, one of `TYPES`; `unknown` where it can't be in use."""
    name = _NAMES.get(number_type(number), "unknown")
    code = number.country_code or 0
    ordinary = name in {"mobile", "fixed_line", "fixed_line_or_mobile", "voip"}
    return WORLDWIDE if ordinary and region_code_for_country_code(code) == REGION_CODE_FOR_NON_GEO_ENTITY else name


def types_from(listed: str) -> frozenset[str]:
    """
    The types in a comma-separated list.

    Raises:
        ValueError: one of them is no type. The sentence names all there are.
    """
    types = frozenset(part for each in listed.split(",") if (part := each.strip().lower()))
    if wrong := sorted(types - {*TYPES}):
        raise ValueError(f"{wrong[0]!r} is not one of {', '.join(TYPES)}.")
    return types
