"""Numeric values of the reading tasks, as documents write them: amounts, dates, times, codes, telephone numbers."""

from __future__ import annotations

from random import Random

from models.starter import lexicon

MONTHS = [
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
]  # fmt: skip
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
SMALL = [
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "fifteen", "twenty", "thirty",
]  # fmt: skip
CURRENCIES = [
    "£{0}", "£{0}", "€{0}", "{0} euros", "EUR {0}", "${0}",
    "{0} pounds", "{0} crowns", "CHF {0}", "{0} EUR", "{0} cents",
]  # fmt: skip
RATES = [
    "per month", "a year", "per day", "per visit", "per cubic metre", "a month", "per household", "a metre",
    "per hour", "per person", "per kWh", "a quarter", "per year", "each",
]  # fmt: skip
PERIODS = ["day", "day", "working day", "week", "month", "year", "hour", "minute", "calendar day", "business day"]


def number(rng: Random) -> str:
    """Any number: '37', '1,240', '12.5', 'seven'."""
    whole = rng.choice([rng.randint(2, 99), rng.randint(2, 99), rng.randint(100, 999), rng.randint(1000, 99999)])
    roll = rng.random()
    if roll < 0.08:
        return rng.choice(SMALL)
    if roll < 0.2:
        return f"{rng.randint(0, 99)}.{rng.randint(1, 99)}"
    return f"{whole:,}" if roll < 0.7 else str(whole)


def count(rng: Random) -> str:
    """A small whole number."""
    return rng.choice(SMALL) if rng.random() < 0.25 else str(rng.choice([rng.randint(2, 30), rng.randint(2, 400)]))


def money(rng: Random) -> str:
    """An amount: '£14.50', '120 euros per month'."""
    whole = rng.choice([rng.randint(2, 99), rng.randint(2, 99), rng.randint(100, 999), rng.randint(1, 400) * 50])
    cents = f".{rng.choice([rng.randint(1, 99), 50, 20, 90, 75]):02d}" if rng.random() < 0.45 else ""
    text = rng.choice(CURRENCIES).format(f"{whole:,}{cents}")
    return f"{text} {rng.choice(RATES)}" if rng.random() < 0.3 else text


def duration(rng: Random) -> str:
    """A span of time: '14 days', 'six months'."""
    unit = rng.choice(PERIODS)
    if rng.random() < 0.08:
        return f"one {unit}"
    return f"{rng.choice(SMALL) if rng.random() < 0.3 else rng.randint(2, 60)} {unit}s"


def date(rng: Random) -> str:
    """A date in one of many notations, or a year."""
    day, month, year_ = rng.randint(1, 28), rng.choice(MONTHS), rng.randint(1950, 2031)
    forms = [
        f"{day} {month} {year_}", f"{day} {month} {year_}", f"{day} {month}", f"{day} {month}", f"{month} {year_}",
        f"{month} {day}, {year_}", f"{year_}-{rng.randint(1, 12):02d}-{day:02d}",
        f"{rng.choice(WEEKDAYS)} {day} {month}",
        str(year_), str(year_), f"{day:02d}.{rng.randint(1, 12):02d}.{year_}", f"{day} {month[:3]} {year_}",
        f"the {rng.choice(['first', 'second', 'last'])} {rng.choice(WEEKDAYS)} of {month}",
    ]  # fmt: skip
    return rng.choice(forms)


def year(rng: Random) -> str:
    """A year."""
    return str(rng.randint(1850, 2029))


def clock(rng: Random) -> str:
    """A time of day: '8:30', '7 p.m.', 'half past six'."""
    hour, minute = rng.randint(5, 22), rng.choice(["00", "15", "30", "45", f"{rng.randint(0, 59):02d}"])
    forms = [
        f"{hour}:{minute}", f"{hour}:{minute}", f"{hour:02d}:{minute}",
        f"{1 + hour % 11} {rng.choice(['a.m.', 'p.m.'])}",
        f"half past {rng.choice(SMALL[:10])}", f"{hour}.{minute}", f"{1 + hour % 11}{rng.choice(['am', 'pm'])}", "noon",
    ]  # fmt: skip
    return rng.choice(forms)


def hours(rng: Random) -> str:
    """Opening hours: '8:00 to 16:30', 'Monday to Friday, 9 a.m. to 5 p.m.'."""
    text = f"{rng.randint(6, 11)}:{rng.choice(['00', '30'])} to {rng.randint(12, 21)}:{rng.choice(['00', '30', '45'])}"
    if rng.random() < 0.3:
        text = f"{rng.randint(6, 11)} a.m. to {rng.randint(1, 9)} p.m."
    return text if rng.random() < 0.6 else f"{rng.choice(WEEKDAYS[:3])} to {rng.choice(WEEKDAYS[3:])}, {text}"


def weekday(rng: Random) -> str:
    """One or two days of the week."""
    day, other = rng.sample(WEEKDAYS, 2)
    return rng.choice([day, day, f"{day}s", f"every {day}", f"{day} and {other}"])


def quantity(rng: Random) -> str:
    """A number with a unit: '3.2 bar'."""
    return f"{number(rng)} {rng.choice(lexicon.UNITS)}"


def percent(rng: Random) -> str:
    """A percentage."""
    amount = rng.choice([str(rng.randint(1, 99)), f"{rng.randint(0, 99)}.{rng.randint(1, 9)}"])
    return rng.choice(
        [f"{amount}%", f"{amount}%", f"{amount} percent", f"{amount} per cent", f"{amount} %", "two thirds"]
    )


def code(rng: Random) -> str:
    """A code of letters and digits: 'KM-204'."""
    letters = "".join(rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    digits = rng.choice([rng.randint(1, 99), rng.randint(100, 9999)])
    forms = [
        f"{letters}-{digits}", f"{letters}-{digits}", f"{letters}{digits}", f"{letters} {digits}",
        f"{letters}/{digits}",
        f"{letters}-{digits:04d}-{rng.choice('ABCDEF')}", f"{rng.randint(1, 99)}-{letters}",
    ]  # fmt: skip
    return rng.choice(forms)


def phone(rng: Random) -> str:
    """A telephone number."""
    forms = [
        f"0{rng.randint(20, 999)} {rng.randint(100, 999)} {rng.randint(1000, 9999)}",
        f"+{rng.randint(30, 49)} {rng.randint(100, 999)} {rng.randint(10000, 99999)}",
        f"0800 {rng.randint(100000, 999999)}",
        f"{rng.randint(100, 999)}-{rng.randint(1000, 9999)}",
    ]
    return rng.choice(forms)
