"""Relation templates of the reading tasks: attributes over typed values and statement/question families.

In a template {e} is the entity (with its article where it has one), {v} the value, {a} the attribute's name.
Families of one line: `value kind # statement | statement ... # question | question ...`.
"""

# ruff: noqa: E501 - a template and its questions stand on one line
from __future__ import annotations

from dataclasses import dataclass

# value kind: attribute name / synonym used by questions, ...
_ATTRIBUTES = """
money: annual fee/yearly charge, connection fee/cost of connecting, deposit/security deposit, standing charge/fixed charge, late fee/charge for late payment, daily rate/price per day, repair cost/cost of repair, entrance fee/admission price, monthly rent, minimum payment, maximum refund, reconnection charge, call-out fee, inspection fee/price of an inspection, membership fee, parking charge, unit price/price per unit, annual budget, replacement cost, fine, cancellation fee, starting salary, discount, subsidy, delivery charge, insurance excess, training allowance, meter test fee
duration: notice period/period of notice, waiting time/wait, warranty period/guarantee, contract term/length of the contract, response time/time to respond, delivery time, storage period, lease term, repair time, retention period, payment period/time to pay, probation period, journey time, cooling-off period, inspection interval, flushing time, battery life, grace period, appeal period, processing time, maximum stay, validity, shelf life, shutdown time
date: opening date, closing date, deadline, expiry date/date of expiry, date of the last inspection, completion date, due date, launch date, commissioning date, start date/starting date, end date, date of the next service, date of issue, renewal date, hearing date, date of the vote
clock: opening time, closing time, departure time, start of the shift, delivery slot, curfew, arrival time, time of the briefing, last admission
hours: opening hours, visiting hours, telephone hours, delivery window, working hours, quiet hours
quantity: capacity/maximum load, length, height, depth, weight, width, flow rate/flow, diameter, design pressure/pressure, noise limit, service area, storage volume, daily output/output, range, power rating, annual consumption/yearly consumption, top speed, target level, alarm level, minimum depth, maximum temperature, chlorine limit, nominal voltage, floor space
count: number of employees/staff count, number of seats, population, number of rooms, number of valves, number of complaints, number of customers, house number, number of pages, batch size, number of samples, number of members, number of spare keys
percent: discount rate, share of renewable energy, leakage rate/leakage, interest rate, tax rate, approval rate, failure rate, occupancy, humidity, turnout, recovery rate, surcharge, efficiency
person: manager, director, owner, architect, founder, chairman/chair, author, head of maintenance, contact person/contact, chief engineer, inspector, tenant, driver, designer, mayor, auditor
role: responsible team, approving body, first contact, point of escalation, certifying authority, supervising office, reporting line
organisation: operator, supplier, manufacturer/maker, insurer, main contractor/contractor, parent company, sponsor, laboratory, employer, maintenance company, previous operator, main customer
place: location, head office, nearest town, destination, home port, birthplace, assembly point, delivery address, storage site, water source, drain outlet, catchment
code: reference number, asset number, part number, form number, permit number, account number, model number, serial number, room code, tariff code, error code, licence number, zone code, invoice number, vehicle registration, project code
phone: emergency number, telephone number/phone number, fax number, hotline, night number
email: e-mail address/email, complaints address, billing address, booking address
colour: colour, cable colour, label colour, warning light, flag colour, card colour, lid colour
material: material, pipe material, roof material, casing, coating, seal material, floor covering
weekday: collection day, market day, closing day, rest day, delivery day, maintenance day, meeting day
document: required document, proof of ownership, supporting evidence, form to be used
list: contents, equipment, tools needed, covered items, required ingredients
reason: reason for the closure, cause of the fault, reason for the delay, ground for refusal, cause of the damage, reason for the change
action: first step, emergency action, next step, purpose, main duty, weekly task, final check
phrase: password, nickname, motto, working title, code word, theme, label
""".strip()

_GENERIC_STATEMENTS = (
    """
The {a} of {e} is {v}.|The {a} for {e} is {v}.|{E} has {a} {v}.|{E}: {a} {v}.|For {e}, the {a} is {v}.|The current {a} of {e} is {v}.|
{v} is the {a} of {e}.|As of this year, the {a} of {e} is {v}.|According to the register, the {a} for {e} is {v}.|
{E} - {a}: {v}.|Please note that the {a} of {e} is {v}.|The {a} of {e} has been set to {v}.|{E} (the {a} is {v}) is listed here.|
The {a} ({e}) is {v}.|At present {e} has {v} as its {a}.|The {a} given for {e} was {v}.
""".replace("\n", "")
    .strip("|")
    .split("|")
)

_GENERIC_QUESTIONS = (
    """
What is the {a} of {e}?|What is the {a} for {e}?|What {a} does {e} have?|What is {e}'s {a}?|Which {a} applies to {e}?|{E}: {a}?|{a} of {e}?|
Can you tell me the {a} of {e}?|Please give the {a} of {e}.|I need the {a} for {e}.|Tell me the {a} of {e}.|what's the {a} for {e}|
Do you know the {a} of {e}?|What does the text give as the {a} of {e}?|{a} {e}|Could you look up the {a} for {e}, please?
""".replace("\n", "")
    .strip("|")
    .split("|")
)

_BY_KIND: dict[str, tuple[str, str]] = {
    "money": (
        "The {a} for {e} amounts to {v}.|{E} is charged with {a} of {v}.|Customers pay {v} as the {a} for {e}.|A {a} of {v} applies to {e}.|We charge a {a} of {v} for {e}.",
        "How much is the {a} for {e}?|How much is the {a} of {e}?|How much does one pay as the {a} for {e}?|How high is the {a} of {e}?",
    ),
    "duration": (
        "The {a} of {e} lasts {v}.|{E} has a {a} of {v}.|A {a} of {v} applies to {e}.|The {a} for {e} may not exceed {v}.",
        "How long is the {a} of {e}?|How long is the {a} for {e}?|How many days, weeks or months is the {a} of {e}?",
    ),
    "date": ("The {a} of {e} was moved to {v}.|The {a} of {e} falls on {v}.|{v} is set as the {a} of {e}.", "When is the {a} of {e}?|On what date is the {a} of {e}?|On which day is the {a} for {e}?"),
    "clock": ("The {a} at {e} is at {v}.", "When is the {a} at {e}?|At what time is the {a} of {e}?"),
    "hours": ("The {a} of {e} are {v}.", "When are the {a} of {e}?|What are the {a} of {e}?"),
    "quantity": ("{E} has a {a} of {v}.|With a {a} of {v}, {e} is unusual.|The {a} of {e} was measured at {v}.|The {a} of {e} reaches {v}.", "How great is the {a} of {e}?|How much is the {a} of {e}?|What {a} was measured at {e}?"),
    "count": ("The {a} of {e} rose to {v}.|{E} reports a {a} of {v}.", "How large is the {a} of {e}?|What {a} does {e} report?"),
    "percent": ("{E} has a {a} of {v}.|The {a} of {e} stands at {v}.|The {a} at {e} fell to {v}.", "How high is the {a} of {e}?|What percentage is the {a} of {e}?"),
    "person": ("{v} is {a} of {e}.|{v} has been the {a} of {e} for some years.|{v} was appointed {a} of {e}.|{E} chose {v} as its {a}.", "Who is the {a} of {e}?|Who is {a} of {e}?|What is the name of the {a} of {e}?"),
    "role": ("{v} is the {a} for {e}.", "Who is the {a} for {e}?"),
    "organisation": ("{v} is the {a} of {e}.|{E} has {v} as its {a}.|{v} became the {a} of {e}.", "Who is the {a} of {e}?|Which company is the {a} of {e}?|Which organisation is the {a} of {e}?"),
    "place": ("The {a} of {e} is in {v}.|{E} has its {a} in {v}.", "Where is the {a} of {e}?|In which place is the {a} of {e}?"),
    "code": ("{E} carries the {a} {v}.|{E} is listed under {a} {v}.|Quote {a} {v} for {e}.", "Under which {a} is {e} listed?|Which {a} belongs to {e}?"),
    "phone": ("Call {v}, the {a} of {e}.|{E} can be reached on {v} ({a}).", "On which {a} can {e} be reached?|What {a} should I call for {e}?"),
    "email": ("Write to {v}, the {a} of {e}.", "To which {a} should I write for {e}?"),
    "colour": ("{E} has a {v} {a}.", "Which {a} does {e} have?"),
    "material": ("{E} has a {a} made of {v}.|The {a} of {e} is made of {v}.", "What is the {a} of {e} made of?"),
    "weekday": ("The {a} at {e} is on {v}.|{E} has its {a} on {v}.", "On which day is the {a} of {e}?|When is the {a} of {e}?"),
    "reason": ("The {a} of {e}: {v}.", "What was the {a} of {e}?"),
    "action": ("The {a} for {e} is to {v}.|As the {a} for {e}, staff {v}.", "What is the {a} for {e}?"),
    "list": ("The {a} of {e} are {v}.|{E} comes with {a}: {v}.", "What are the {a} of {e}?|Which {a} belong to {e}?"),
}  # fmt: skip

_FAMILIES = """
person # {v} manages {e}.|{E} is managed by {v}.|{v} runs {e}.|{E} is run by {v}. # Who manages {e}?|Who runs {e}?|By whom is {e} managed?|Who is in charge of {e}?
person # {v} designed {e}.|{E} was designed by {v}.|{E} follows a design by {v}. # Who designed {e}?|Whose design is {e}?|By whom was {e} designed?
person # {v} founded {e}.|{E} was founded by {v}. # Who founded {e}?|Who set up {e}?|By whom was {e} founded?
person # {v} discovered the fault at {e}.|The fault at {e} was discovered by {v}. # Who discovered the fault at {e}?|Who found the fault at {e}?
person # {v} wrote the report on {e}.|The report on {e} was written by {v}. # Who wrote the report on {e}?|Who is the author of the report on {e}?
person # {v} won the prize for {e}.|The prize for {e} went to {v}. # Who won the prize for {e}?|Who got the prize for {e}?
agent # {v} owns {e}.|{E} belongs to {v}.|{E} is owned by {v}. # Who owns {e}?|To whom does {e} belong?
agent # {v} inspects {e}.|{E} is inspected by {v}. # Who inspects {e}?|By whom is {e} inspected?
agent # {v} approves {e}.|{E} must be approved by {v}.|{E} needs the approval of {v}. # Who approves {e}?|Who must approve {e}?|Whose approval does {e} need?
agent # {v} pays for {e}.|{E} is paid for by {v}.|The cost of {e} is borne by {v}. # Who pays for {e}?|Who bears the cost of {e}?
agent # {v} maintains {e}.|{E} is maintained by {v}.|{v} is responsible for the upkeep of {e}. # Who maintains {e}?|Who is responsible for the upkeep of {e}?|Who keeps {e} in repair?
agent # {v} operates {e}.|{E} is operated by {v}. # Who operates {e}?|By whom is {e} operated?
role # {v} is responsible for {e}.|{E} is the responsibility of {v}.|Responsibility for {e} lies with {v}. # Who is responsible for {e}?|With whom does responsibility for {e} lie?
role # {v} keeps the key of {e}.|The key of {e} is kept by {v}.|Ask {v} for the key of {e}. # Who keeps the key of {e}?|Who has the key to {e}?|Whom should I ask for the key of {e}?
role # Faults at {e} are reported to {v}.|Report any fault at {e} to {v}. # To whom are faults at {e} reported?|Who should be told about a fault at {e}?|Where do I report a fault at {e}?
role # Questions about {e} go to {v}.|{v} answers questions about {e}. # Who answers questions about {e}?|To whom do questions about {e} go?
organisation # {v} built {e}.|{E} was built by {v}. # Who built {e}?|Which company built {e}?|By whom was {e} built?
organisation # {v} supplies {e}.|{E} is supplied by {v}. # Who supplies {e}?|Which company supplies {e}?
organisation # {v} bought {e}.|{E} was sold to {v}.|{E} was bought by {v}. # Who bought {e}?|To whom was {e} sold?
organisation # {v} insures {e}.|{E} is insured with {v}. # Who insures {e}?|With whom is {e} insured?
year # {E} was built in {v}.|The construction of {e} was finished in {v}.|{E} dates from {v}. # When was {e} built?|In which year was {e} built?|What year does {e} date from?
date # {E} opened on {v}.|{E} was opened on {v}. # When did {e} open?|When was {e} opened?|On what date did {e} open?
date # {E} closed on {v}.|{E} has been closed since {v}. # When did {e} close?|Since when has {e} been closed?
date # {E} was last inspected on {v}.|The last inspection of {e} took place on {v}. # When was {e} last inspected?|When did the last inspection of {e} take place?
date # {E} takes effect on {v}.|{E} comes into force on {v}.|{E} applies from {v}. # When does {e} take effect?|From when does {e} apply?|When does {e} come into force?
date # {E} expires on {v}.|{E} runs out on {v}.|{E} is valid until {v}. # When does {e} expire?|Until when is {e} valid?|How long is {e} valid?
date # Applications for {e} must arrive by {v}.|The last day to apply for {e} is {v}. # By when must applications for {e} arrive?|What is the last day to apply for {e}?|When do applications for {e} close?
year # {E} was renovated in {v}.|In {v} {e} was renovated. # When was {e} renovated?|In which year was {e} renovated?
year # {E} was founded in {v}.|Founded in {v}, {e} has grown since. # When was {e} founded?|In which year was {e} founded?
clock # {E} opens at {v}.|The doors of {e} open at {v}. # When does {e} open?|At what time does {e} open?|What time do the doors of {e} open?
clock # {E} closes at {v}.|The doors of {e} are locked at {v}. # When does {e} close?|At what time does {e} close?
clock # The shift at {e} begins at {v}.|Work at {e} starts at {v}. # When does the shift at {e} begin?|At what time does work at {e} start?
hours # {E} is open from {v}.|Visitors are welcome at {e} from {v}. # When is {e} open?|During which hours is {e} open?
weekday # {E} is closed on {v}.|{E} does not open on {v}. # On which day is {e} closed?|When is {e} closed?
weekday # The bins at {e} are collected on {v}.|Collection at {e} takes place on {v}. # When are the bins at {e} collected?|On which day does collection at {e} take place?
weekday # Samples are taken at {e} on {v}.|Sampling at {e} takes place on {v}. # When are samples taken at {e}?|On which day is {e} sampled?
money # {E} costs {v}.|The price of {e} is {v}.|You pay {v} for {e}.|{E} is priced at {v}. # How much does {e} cost?|What is the price of {e}?|What does {e} cost?|How much do I pay for {e}?
money # {E} was sold for {v}.|The sale of {e} brought {v}. # For how much was {e} sold?|What did the sale of {e} bring?
money # Repairing {e} cost {v}.|The repair of {e} came to {v}. # How much did the repair of {e} cost?|What did it cost to repair {e}?
money # The loss at {e} was put at {v}.|{E} suffered damage of {v}. # How much damage did {e} suffer?|How high was the loss at {e}?
quantity # {E} holds {v}.|{E} can hold up to {v}.|Up to {v} fit into {e}. # How much does {e} hold?|How much can {e} hold?|What can {e} hold?
quantity # {E} supplies {v}.|{E} delivers {v}. # How much does {e} supply?|How much does {e} deliver?
quantity # {E} weighs {v}.|The weight of {e} comes to {v}. # How much does {e} weigh?|How heavy is {e}?
quantity # {E} is {v} long.|From end to end {e} measures {v}. # How long is {e} from end to end?|What is the length of {e}?
quantity # {E} is {v} deep.|The depth of {e} is {v}. # How deep is {e}?|What is the depth of {e}?
quantity # {E} uses {v}.|{E} consumes {v}. # How much does {e} use?|How much does {e} consume?
quantity # {E} lies {v} above the sea.|The altitude of {e} is {v}. # How high above the sea does {e} lie?|What is the altitude of {e}?
count # {E} employs {v} people.|{v} people work at {e}. # How many people work at {e}?|How many people does {e} employ?
number # {E} serves {v} customers.|{v} customers depend on {e}. # How many customers does {e} serve?|How many customers depend on {e}?
number # {E} was visited by {v} people.|{v} people visited {e}. # How many people visited {e}?|How many visitors did {e} have?
percent # {E} covers {v} of the demand.|{v} of the demand is met by {e}. # What share of the demand does {e} cover?|How much of the demand is met by {e}?
percent # {E} loses {v} of its water.|{v} of the water is lost at {e}. # How much of its water does {e} lose?|What share of the water is lost at {e}?
percent # {E} gives a reduction of {v}.|With {e} the bill falls by {v}. # By how much does the bill fall with {e}?|What reduction does {e} give?
duration # Repairs at {e} take {v}.|{E} is repaired within {v}. # How long do repairs at {e} take?|Within what time is {e} repaired?
duration # {E} lasts {v}.|The duration of {e} is {v}. # How long does {e} last?|What is the duration of {e}?
duration # {E} is inspected every {v}.|Every {v} {e} is checked. # How often is {e} inspected?|How often is {e} checked?
duration # Objections to {e} must be made within {v}.|You have {v} to object to {e}. # Within what time must objections to {e} be made?|How long do I have to object to {e}?|How many days do I have to object to {e}?
duration # Records of {e} are kept for {v}.|{E} records must be kept for {v}. # How long are records of {e} kept?|For how long must {e} records be kept?
where # {E} stands {v}.|{E} is {v}.|{E} can be found {v}.|{E} is located {v}. # Where is {e}?|Where does {e} stand?|Where can {e} be found?|Where is {e} located?
where # The spare parts of {e} are kept {v}.|Spare parts for {e} are stored {v}. # Where are the spare parts of {e} kept?|Where do I find spare parts for {e}?
where # The meeting about {e} takes place {v}.|People will discuss {e} {v}. # Where does the meeting about {e} take place?|Where will {e} be discussed?
place # {E} is supplied from {v}.|The water of {e} comes from {v}. # Where is {e} supplied from?|Where does the water of {e} come from?
place # {E} moved to {v}.|{E} was moved to {v}. # Where did {e} move to?|To which place was {e} moved?
place # {E} discharges into {v}.|{E} drains to {v}. # Where does {e} discharge?|Where does {e} drain to?
code # {E} replaces {v}.|{v} was replaced by {e}. # What does {e} replace?|What was replaced by {e}?
code # Use form {v} for {e}.|Applications for {e} are made on form {v}. # Which form is used for {e}?|On which form do I apply for {e}?
code # {E} uses the part {v}.|The part {v} fits {e}. # Which part does {e} use?|Which part fits {e}?
phone # Ring {v} to reach {e}.|{E} answers on {v}. # Which number do I ring to reach {e}?|On which number does {e} answer?
email # Send documents for {e} to {v}.|{E} takes requests at {v}. # Where do I send documents for {e}?|Which address takes requests for {e}?
colour # {E} is painted {v}.|{E} was painted {v}. # What colour is {e}?|What colour was {e} painted?
colour # The light of {e} turns {v}.|{E} shows a {v} light. # What colour is the light of {e}?|Which light does {e} show?
material # {E} is made of {v}.|{E} consists of {v}.|{v} was used to make {e}. # What is {e} made of?|What does {e} consist of?|Which material was used to make {e}?
material # {E} is lined with {v}.|A layer of {v} lines {e}. # What is {e} lined with?|With what is {e} lined?
reason # {E} was closed because {v}.|Because {v}, {e} was closed. # Why was {e} closed?|For what reason was {e} closed?
reason # {E} was delayed because {v}.|The delay of {e} came about because {v}. # Why was {e} delayed?|What delayed {e}?
reason # {E} failed because {v}.|As {v}, {e} failed. # Why did {e} fail?|What made {e} fail?
thing # {E} was shut because of {v}.|Because of {v}, {e} was shut. # Why was {e} shut?|What led to the shutting of {e}?
document # {E} requires {v}.|For {e} you must bring {v}.|Bring {v} when you ask for {e}. # What does {e} require?|What must I bring for {e}?|What do I need for {e}?
document # {E} is issued on presentation of {v}.|Anyone who wants {e} must show {v}. # What must be shown to get {e}?|On presentation of what is {e} issued?
list # {E} includes {v}.|{E} contains {v}.|{v} are part of {e}. # What does {e} include?|What does {e} contain?|What is part of {e}?
list # {E} is exempt from charges on {v}.|{E} pays nothing for {v}. # For what does {e} pay nothing?|Which charges is {e} exempt from?
action # {E} allows customers to {v}.|With {e} customers may {v}. # What does {e} allow customers to do?|What may customers do with {e}?
action # {E} is used to {v}.|The purpose of {e} is to {v}.|Staff use {e} to {v}. # What is {e} used for?|What do staff use {e} for?
action # Before using {e}, {v}.|Always {v} before you use {e}. # What must be done before using {e}?|What should I do before I use {e}?
action # If {e} fails, {v}.|When {e} fails, operators must {v}. # What must be done if {e} fails?|What should operators do when {e} fails?
thing # {E} was exchanged for {v}.|{v} took the place of {e}. # What was {e} exchanged for?|What took the place of {e}?
thing # {E} is connected to {v}.|{E} leads to {v}. # What is {e} connected to?|What does {e} lead to?
thing # {E} does not cover {v}.|{v} is excluded from {e}. # What does {e} not cover?|What is excluded from {e}?
"""


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation: `key` names it (unique), `kind` is the type of its values."""

    key: str
    kind: str
    name: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]


def _attribute_relations() -> list[Relation]:
    relations = []
    for line in _ATTRIBUTES.splitlines():
        kind, names = line.split(": ", 1)
        own_statements, own_questions = _BY_KIND.get(kind, ("", ""))
        for entry in names.split(", "):
            name, *synonyms = entry.split("/")
            statements = [s for s in own_statements.split("|") if s] * 3 + _GENERIC_STATEMENTS
            questions = [q for q in own_questions.split("|") if q] * 3 + _GENERIC_QUESTIONS
            plural = name.endswith("hours") or name in {
                "contents",
                "tools needed",
                "covered items",
                "required ingredients",
                "equipment",
            }
            if plural:
                statements = [s for s in own_statements.split("|") if s] + ["{E}: {a} {v}.", "{E} - {a}: {v}."]
            if name[0] in "aeiou":
                statements = [s.replace(" a {a}", " an {a}").replace("A {a}", "An {a}") for s in statements]
            asked = [q.replace("{a}", n) for n in [name, name, *synonyms] for q in questions]
            relations.append(
                Relation(name, kind, name, tuple(s.replace("{a}", name) for s in statements), tuple(asked))
            )
    return relations


def _family_relations() -> list[Relation]:
    relations = []
    for number, line in enumerate(_FAMILIES.strip().splitlines()):
        kind, statements, questions = (part.strip() for part in line.split("#"))
        relations.append(
            Relation(f"family-{number}", kind, "", tuple(statements.split("|")), tuple(questions.split("|")))
        )
    return relations


ATTRIBUTES: list[Relation] = _attribute_relations()
FAMILIES: list[Relation] = _family_relations()
RELATIONS: list[Relation] = ATTRIBUTES + FAMILIES
