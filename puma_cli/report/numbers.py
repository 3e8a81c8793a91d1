"""Numbers as people read them."""

from __future__ import annotations


def count(number: int) -> str:
    """Return a large number in three digits, such as `4.02 B`."""
    return _scaled(number, ((10**9, " B"), (10**6, " M"), (10**3, " k")), "")


def size_on_disk(size: int) -> str:
    """Return bytes in three digits, such as `11.6 MB` (decimal units, as disks are sold)."""
    return _scaled(size, ((10**9, " GB"), (10**6, " MB"), (10**3, " kB")), " B")


def share(part: float, whole: float) -> str:
    """Return a part of a whole in percent, or a dash where there is no whole."""
    return f"{part / whole:.0%}" if whole else "–"


def three_digits(value: float) -> str:
    """Return a number >= 0 in three digits, or all before the point: 0.0170, 1.72, 172, 1,724."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def percent(part: float) -> str:
    """Return a share in percent, as many digits as it has: 90%, 97.5%, 99.9%."""
    return f"{100 * part:.4g}%"


def duration(seconds: float) -> str:
    """Return a time span as `45 s`, `3:20 min` or `1:05:00 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"


def _scaled(number: int, units: tuple[tuple[int, str], ...], plain: str) -> str:
    for size, unit in units:
        # 999.6 k would round to "1e+03 k": from there on it belongs to the next unit.
        if number >= 0.9995 * size:
            value = number / size
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f}{unit}"
    return f"{number}{plain}"
