"""How numbers are written: in one place, so that every table, caption and sentence of a report writes them the same way.

Measured values have three significant digits. A value and its standard error have the same number of decimals. A missing value is a dash,
never a zero.
"""

import math

from kp.metrics.intervals import wilson

MISSING = "–"
MINUS = "\u2212"


def measured(value: float | None) -> str:
    """Three significant digits; thousands separators from 1,000."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "infinite"
    return _plain(value, _decimals(value))


def counted(value: float | None) -> str:
    """A whole number in full; any other number with three significant digits."""
    if value is None:
        return MISSING
    return _plain(value, 0) if float(value).is_integer() else measured(value)


def setting(value: float | None) -> str:
    """A number that somebody chose, in its shortest form."""
    return MISSING if value is None else f"{value:g}"


def learning_rate(value: float | None) -> str:
    """A learning rate: in full if it was chosen, with three digits if it was drawn from a range."""
    return MISSING if value is None else f"{value:.3g}"


def percent(rate: float | None, error: float | None = None) -> str:
    """A share as a percentage without the percent sign, with its standard error if there is one."""
    return with_error(_hundredfold(rate), _hundredfold(error))


def points(difference: float | None, error: float | None = None) -> str:
    """A difference of shares in percentage points, always signed."""
    return with_error(_hundredfold(difference), _hundredfold(error), sign="+")


def points_interval(difference: float | None, lower: float | None = None, upper: float | None = None) -> str:
    """A difference of shares in percentage points with its 95% interval, if it has one, at one decimal: `+1.2 (−0.3 to +2.7)`."""
    if difference is None:
        return MISSING
    span = "" if lower is None or upper is None else f" ({_tenths(lower)} to {_tenths(upper)})"
    return f"{_tenths(difference)}{span}"


def share_with_interval(count: float, n: int) -> str:
    """A count of n as a percentage with Wilson's interval, which holds for small counts too: `2.0 (0.6 to 7.0)`; a dash if n is 0."""
    limits = wilson(count, n)
    if limits is None:
        return MISSING
    lower, upper = (round(100 * limit, 1) + 0.0 for limit in limits)  # the lower limit of 0 is -1e-17 for some n, and not "-0.0"
    return f"{100 * count / n:.1f} ({lower:.1f} to {upper:.1f})"


def with_error(value: float | None, error: float | None, sign: str = "-") -> str:
    """`value ± error` at the same number of decimals; `sign` as in a format specification."""
    if value is None or not math.isfinite(value):
        return measured(value)
    if error is None or not math.isfinite(error):
        return _plain(value, _decimals(value), sign)
    decimals = _decimals(max(abs(value), error))
    if 0 < error < 1:
        decimals = max(decimals, min(3, math.ceil(-math.log10(error))))
    return f"{_plain(value, decimals, sign)} ± {_plain(error, decimals)}"


def duration(seconds: float | None) -> str:
    """Seconds as `48.2 s`, `3 min 05 s` or `2 h 05 min`."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{measured(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _hundredfold(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _tenths(share: float) -> str:
    rounded = round(100 * share, 1)
    return f"{rounded:+.1f}".replace("-", MINUS) if rounded else "0.0"


def _decimals(value: float) -> int:
    if value == 0:
        return 0
    return min(6, max(0, 2 - math.floor(math.log10(abs(float(f"{value:.2e}"))))))


def _plain(value: float, decimals: int, sign: str = "-") -> str:
    rounded = round(value, decimals) + 0.0
    if rounded == 0:
        return f"{0:.{decimals}f}" if value else "0"
    return f"{rounded:{sign},.{decimals}f}".replace("-", MINUS)
