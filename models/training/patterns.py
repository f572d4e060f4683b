"""Patterns of what an answer can be: numbers, amounts, spans of time, dates, clock times."""

WORDS = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty"
NUMBER = rf"(?:\d[\d.,]*\d|\d|{WORDS})(?: (?:million|thousand))?"
ABOUT = r"(?:about|around|up to|at least|at most|more than|less than|over|under|nearly|minus) "
SPAN = r"(?:seconds?|minutes?|(?:working |calendar |empty )?(?:hours?|days?|weeks?|months?|quarters?|years?))"
MEASURE = (
    r"(?:euros?|cents?|percent|(?:(?:square|cubic) )?(?:kilo|centi|milli)?met(?:re|er)s?|(?:milli)?lit(?:re|er)s?|"
    r"(?:kilo)?grams?|tonnes?|bar|volts?|kilowatts?|kilowatt hours?|hectares?|degrees(?: Celsius)?|mg/l|mm|ppm)"
)
EACH = r"(?: (?:a|an|per|each|every) (?:[a-z]+ )?[a-z]+)?"
AMOUNT = rf"(?:{ABOUT})?{NUMBER} (?:{MEASURE}|{SPAN}){EACH}"
MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
WEEKDAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|weekday)s?"
DATE = rf"(?:{WEEKDAY} )?\d{{1,2}} {MONTH}(?: \d{{4}})?|\d{{4}}-\d{{2}}-\d{{2}}|{MONTH} \d{{4}}"
CLOCK = r"\d{1,2}[:.]\d{2}"
TIME = rf"(?:{DATE}|{CLOCK}|{WEEKDAY})"
LASTING = rf"(?:{ABOUT})?{NUMBER} {SPAN}"
