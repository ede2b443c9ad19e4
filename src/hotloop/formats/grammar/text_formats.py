"""JSON Schema's `format` as regular expressions, for families that write a string without quotation marks.

In JSON the grammar engine rules formats by itself. A format that is not here rules nothing, as JSON Schema has it.
"""

_DIGIT = "[0-9]"
_LEAP_YEAR = f"{_DIGIT}{{2}}(?:0[48]|[2468][048]|[13579][26])"  # but for those of whole centuries
_MONTH_DAY = (
    "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8])"
)
_DATE = f"(?:{_DIGIT}{{4}}-(?:{_MONTH_DAY})|{_LEAP_YEAR}-02-29)"  # RFC 3339 full-date
_HOURS_MINUTES = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = f"{_HOURS_MINUTES}:[0-5][0-9](?:\\.[0-9]+)?(?:Z|[+-]{_HOURS_MINUTES})"  # RFC 3339 full-time
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_HEX = "[0-9a-fA-F]"
_LABEL = "[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?"
_HOST = f"{_LABEL}(?:\\.{_LABEL})*"

TEXT_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "uuid": f"{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}",
    "ipv4": f"{_BYTE}(?:\\.{_BYTE}){{3}}",
    "email": f"[0-9A-Za-z_+-]+(?:\\.[0-9A-Za-z_+-]+)*@{_HOST}",
    "hostname": _HOST,
}
