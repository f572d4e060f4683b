"""Word lists of the vetoes: words that carry no content, words that say the same, words that say the opposite."""

_LIGHT = """
a an the this that these those there here it its they them their he she his her him we us our ours you your
yours i me my mine one ones self myself yourself itself themselves who whom whose which what when where why how
is are was were be been being am do does did done doing have has had having can could may might shall should
will would must ought need needed get gets got getting give gives given gave take takes taken took make makes
made go goes went come comes came let lets put and or but so then than as if of in on at to for from by with
about into onto within through upon per via up between during please tell know say says said mean means meant
meaning show just also too very really exactly actually currently now today present still already any some each
every such own same other thing things way kind sort case hello hi possible able thanks thank ok okay i'm i've
what's it's that's there's where's when's who's how's
"""
LIGHT = frozenset(_LIGHT.split())
"""Left out before words are compared. Words that can turn a question round are not here: see AXES and NEGATION."""

SAME = (
    "price cost fee",
    "pay paid payment payable",
    "begin began begun start starting beginning",
    "end finish",
    "buy bought purchase",
    "phone telephone call",
    "mail email e-mail",
    "largest biggest highest maximum most max greatest",
    "smallest lowest minimum least min",
    "large big size",
    "fast quick quickly soon",
    "repair fix mend",
    "allow permit permission allowed",
    "require required",
    "reply answer respond response",
    "firm company",
    "people persons person",
    "customer client",
    "receive obtain",
    "happen occur",
    "amount sum",
    "often frequently frequent frequency",
    "read reading",
    "choose chose chosen",
    "build built",
    "hold held",
    "keep kept store stored",
    "grow grew grown",
    "sell sold",
    "write wrote written",
    "send sent",
    "use used using usage",
    "deep depth",
    "wide width",
    "long length",
    "old age",
    "high height",
    "hard hardness",
    "heavy weight weigh",
    "everybody everyone",
    "nobody no-one",
    "additional extra further",
    "share part proportion",
    "improve better",
    "increase rise rose risen",
    "decrease fall fell reduce",
    "month monthly",
    "year yearly annual annually",
    "week weekly",
    "day daily",
    "hour hourly",
    "quarter quarterly",
    "euro euros eur €",
    "percent percentage %",
    "litre liter",
)
"""Words of one row are one word."""

AXES = (
    (
        "increase rise raise gain higher upward more",
        "decrease fall reduce lower shrink lose less fewer downward little",
    ),
    ("minimum least lowest smallest min", "maximum most highest largest greatest max biggest"),
    ("before earlier prior", "after later following"),
    ("begin start", "end finish stop"),
    ("open", "close closed shut"),
    ("earliest", "latest"),
    ("first", "last final"),
    ("old former previous past", "new next future"),
    ("hot warm", "cold cool"),
    ("inside indoor indoors", "outside outdoor outdoors"),
    ("above over exceed", "below under"),
    ("off",),
    ("out",),
    ("down",),
    ("back",),
    ("accept approve", "reject refuse forbid deny"),
    ("buy", "sell"),
    ("join register", "leave cancel"),
    ("add connect install", "remove disconnect uninstall"),
    ("north", "south", "east", "west"),
    ("left", "right"),
    ("upper top", "bottom"),
    ("night", "morning", "evening", "afternoon"),
    ("weekday", "weekend"),
    ("summer", "winter", "spring", "autumn"),
    ("public", "private"),
    ("household domestic", "business commercial industrial"),
    ("tenant", "landlord owner"),
    ("full whole", "half partial"),
    ("single", "double"),
    ("early", "late"),
    ("near", "far"),
    ("cheap cheaper cheapest", "expensive"),
    ("impossible unable",),
    ("advantage benefit pro", "disadvantage drawback con"),
    ("best", "worst"),
    ("good", "bad"),
    ("safe", "dangerous unsafe"),
    ("second", "minute", "hour hourly", "day daily", "week weekly", "month monthly", "year yearly annual annually"),
)
"""Words of one row are sides of one thing: two questions must name the same sides of it."""

NEGATION = frozenset(
    {
        "not",
        "no",
        "never",
        "none",
        "nobody",
        "nothing",
        "without",
        "neither",
        "nor",
        "cannot",
        "unable",
        "except",
        "unless",
    }
)
NUMBERS = {
    "zero": "0", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "fifteen": "15", "twenty": "20", "thirty": "30",
    "fifty": "50", "hundred": "100", "thousand": "1000", "million": "1000000", "half": "0.5",
    "once": "1x", "twice": "2x", "both": "2",
}  # fmt: skip
"""Numbers in words. "One" and "first" are left to the words: they mostly count nothing."""
