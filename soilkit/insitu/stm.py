"""The lines of a .stm file: which are well formed, in both of ISMN's formats and all line ends."""

import re
from dataclasses import dataclass
from datetime import datetime

TIME = (
    rb"\d{4}/(?:0[1-9]|1[0-2])/(?:0[1-9]|[12]\d|3[01])[ \t]+(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d)?"
)
VALUE = rb"(?:[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[nN][aA][nN])"
FLAG = rb"[A-Z]\d{0,2}(?:,[A-Z]\d{0,2})*"
REST = rb"(?:[ \t][^\n]*)?$"
HEADER_VALUES_ROW = re.compile(
    rb"^[ \t]*(" + TIME + rb"[ \t]+" + VALUE + rb"[ \t]+" + FLAG + rb")" + REST, re.MULTILINE
)
CEOP_ROW = re.compile(
    rb"^[ \t]*(" + TIME + rb"[ \t]+" + TIME + rb"[ \t]+(?:\S+[ \t]+){8}" + VALUE + rb"[ \t]+" + FLAG
    + rb")" + REST,
    re.MULTILINE,
)  # fmt: skip
NO_PROVIDER_FLAG = b" -"  # the provider's own flag may be missing or many words; it is not used
HEADER_WORDS, HEADER_COORDINATES = 8, slice(3, 6)
CEOP_COORDINATES = slice(7, 10)


@dataclass(frozen=True)
class CleanText:
    """A .stm file without its malformed lines, one line end, no provider flags."""

    text: bytes
    n_rows: int
    n_malformed: int
    first_malformed: str


def clean(raw: bytes) -> CleanText | None:
    """Keep the well-formed rows; None where the first line is of neither format."""
    lines = [line for line in raw.replace(b"\r", b"\n").split(b"\n") if line.strip()]
    if not lines:
        return None
    text = b"\n".join(lines)
    if CEOP_ROW.match(lines[0]):
        rows, wanted, head = _real_days(CEOP_ROW.findall(text)), len(lines), []
        rows[:1] = [_with_numbers(row, CEOP_COORDINATES) for row in rows[:1]]
        pattern = CEOP_ROW
    else:
        words = lines[0].split()
        if len(words) < HEADER_WORDS or re.match(rb"\d{4}/", words[0]):
            return None
        head = [_with_numbers(lines[0], HEADER_COORDINATES)]
        rows, wanted = _real_days(HEADER_VALUES_ROW.findall(text)), len(lines) - 1
        pattern = HEADER_VALUES_ROW
    n_malformed = wanted - len(rows)
    first = _first_malformed(lines[len(head) :], pattern) if n_malformed else ""
    body = [row + NO_PROVIDER_FLAG for row in rows]
    return CleanText(b"\n".join(head + body) + b"\n", wanted, n_malformed, first)


def _real_days(rows: list[bytes]) -> list[bytes]:
    """Drop rows of days that no calendar has, such as 2019/02/30."""
    impossible = {day for day in {row[:10] for row in rows} if not _is_day(day)}
    return [row for row in rows if row[:10] not in impossible] if impossible else rows


def _is_day(day: bytes) -> bool:
    try:
        datetime.strptime(day.decode(), "%Y/%m/%d")
    except ValueError:
        return False
    return True


def _with_numbers(line: bytes, places: slice) -> bytes:
    """Make a missing coordinate, however it is spelt, "nan", and the line ASCII."""
    words = line.decode("ascii", "replace").replace("\ufffd", "_").split()
    words[places] = [word if _is_number(word) else "nan" for word in words[places]]
    return " ".join(words).encode()


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _first_malformed(lines: list[bytes], pattern: re.Pattern[bytes]) -> str:
    for line in lines:
        found = pattern.match(line)
        if found is None or not _is_day(found[1][:10]):
            return line.decode("ascii", "replace")[:80]
    return ""
