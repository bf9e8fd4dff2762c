"""Lengths of time in the words of the page: "6.2 s", "24 s", "2 min 10 s", "1 h 5 min"."""


def in_words(seconds: float) -> str:
    """A measured length."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    return about(seconds)


def about(seconds: float) -> str:
    """A predicted length, in whole units."""
    whole = max(1, round(seconds))
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        if rest and minutes < 10:
            return f"{minutes} min {rest} s"
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
