"""Longer sentences with several slots, as documents of a public utility, an office or a shop would put them.

One line: `text # slot: question | question # slot: question ...`. In the text {name:kind} draws a value of models.starter.values
(or one of: np a noun phrase, verb a base verb phrase, word a noun), {e} is an entity, [a|b] picks a wording. Questions may
name other slots. All texts were written for this project.
"""

# ruff: noqa: E501 - a template and its questions stand on one line
from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from models.starter import facts, values

LINES: list[str] = """
Customers who want to {x:action} must tell {who:role} at least {lead:duration} [beforehand|in advance|before the date]. # lead: How long in advance must customers tell {who} that they want to {x}? | How much notice is needed to {x}? | How early must I report that I want to {x}? # who: Whom must customers tell if they want to {x}? | Who has to be told before customers {x}?
If {e} is [not paid|left unpaid] within {t:duration}, a surcharge of {v:money} is added[.| to the next bill.] # t: Within what time must {e} be paid? | How long is there to pay {e} before a surcharge is added? # v: What surcharge is added if {e} is not paid? | How much more is due if {e} is paid late?
{who:role} [reads|checks] {e} every {t:duration} and [sends|reports] the result to {to:role}. # who: Who checks {e} regularly? # t: How often is {e} checked? | At what interval is {e} read? # to: To whom is the result for {e} sent? | Who gets the result of {e}?
The [fee|charge|price] for {e} is {v:money} for [households|private customers] and {w:money} for businesses. # v: How much do households pay for {e}? | What is the price of {e} for private customers? # w: How much do businesses pay for {e}? | What does {e} cost for a business?
Children under {n:count} pay {v:money} at {e}, adults {w:money}. # v: What do children pay at {e}? | How much is the ticket for children at {e}? # w: How much do adults pay at {e}? | What is the adult price at {e}? # n: Under what age do children pay less at {e}?
A [refund|repayment] of {v:money} is [paid|due] when {e} is out of service for more than {t:duration}. # v: What refund is paid when {e} is out of service? | How much is paid back if {e} fails for long? # t: After what time out of service does {e} lead to a refund? | How long must {e} be out of service before money is paid back?
On {d:weekday} {e} [opens|is open] from {a:clock} until {b:clock}. # a: When does {e} open on {d}? | From what time is {e} open on {d}? # b: When does {e} close on {d}? | Until what time is {e} open on {d}?
{e} will be [closed|shut] from {a:date} to {b:date} [because|since] {why:reason}. # a: From when will {e} be closed? | When does the closure of {e} begin? # b: Until when will {e} be closed? | When does the closure of {e} end? # why: Why will {e} be closed? | What is the reason for closing {e}?
During the works on {e}, traffic is [sent|led] over {p:place}. # p: Where is traffic sent during the works on {e}? | Over which place does the diversion around {e} run?
If the reading at {e} [exceeds|goes above|rises above] {v:quantity}, {who:role} must {x:action}. # v: Above what reading at {e} is action needed? | What is the limit for the reading at {e}? # who: Who must act if the reading at {e} is too high? # x: What must be done if the reading at {e} is too high? | What does {who} do when the limit at {e} is exceeded?
If the [level|pressure|value] at {e} falls below {v:quantity}, [call|ring|alert] {who:role} on {n:phone}. # v: Below what value at {e} must somebody be called? # who: Who is called if the value at {e} is too low? | Whom do I call when {e} falls too low? # n: Which number is called if {e} falls too low?
First {x:action}, then {y:action}, and finally {z:action}. # x: What must be done first before one can {y}? | What comes before the step to {y}? # y: What follows after one has to {x}? | What comes between the steps to {x} and to {z}? # z: What is done last, after the step to {y}? | What is the final step after one has to {x} and {y}?
Step {n:count}: {x:action}; this takes about {t:duration}. # t: How long does it take to {x}? | How much time does step {n} take? # x: What is done in step {n}? | What does step {n} say?
{who:person} [reported|told the meeting] that {e} had {x:count} faults in {y:year}. # who: Who reported on the faults of {e}? # x: How many faults did {e} have in {y}? # y: In which year did {e} have {x} faults?
The committee [decided|agreed] on {d:date} to {x:action} for {e}. # d: When did the committee decide about {e}? | On what date was the decision on {e} taken? # x: What did the committee decide about {e}? | What was agreed for {e}?
Staff who work [nights|on Sundays|overtime] at {e} receive {v:money} extra and {t:duration} of rest. # v: How much extra do staff get for such work at {e}? | What extra pay do staff receive at {e}? # t: How much rest do staff at {e} receive? | How long is the rest for staff at {e}?
Every employee of {e} is entitled to {t:duration} of leave; after {y:count} years it rises to {u:duration}. # t: How much leave does an employee of {e} get? | How long is the leave at {e}? # u: How much leave is given at {e} after {y} years? # y: After how many years does leave at {e} rise?
Requests for {e} are [decided|answered|handled] by {who:role} within {t:duration}. # who: Who decides on requests for {e}? | Who handles requests for {e}? # t: How long does it take to answer a request for {e}? | Within what time are requests for {e} decided?
You may [appeal|object] in writing to {who:role} within {t:duration} of receiving {x:thing}. # t: How long may I wait to object after receiving {x}? | Within what time can one appeal after {x}? # who: To whom does one appeal against {x}? | Who receives an objection after {x}?
The [warranty|guarantee] on {e} covers {x:np} for {t:duration}, but not {y:np}. # t: How long does the warranty on {e} last? | For how long is {x} covered on {e}? # x: What does the warranty on {e} cover? # y: What is not covered by the warranty on {e}? | What does the guarantee on {e} exclude?
{e} is [filled|refilled] to {v:quantity} every {d:weekday} by {who:role}. # v: To what amount is {e} filled? # who: Who fills {e}? | By whom is {e} refilled? # d: On which day is {e} filled? | When is {e} filled?
The [pipe|line|cable] between {a:place} and {b:place} is {v:quantity} long and made of {m:material}. # v: How long is the line between {a} and {b}? # m: What is the line from {a} to {b} made of? | Which material was used between {a} and {b}?
In {y:year} {who:organisation} [replaced|rebuilt|modernised] {e} for {v:money}. # y: When was {e} replaced? | In which year was {e} rebuilt? # who: Who rebuilt {e}? | Which company replaced {e}? # v: How much did it cost to rebuild {e}? | What was paid for the replacement of {e}?
{e} [draws|takes] its water from {p:place} and [pumps|sends] {v:quantity} to {q:place}. # p: Where does {e} draw its water from? | What is the source of {e}? # q: Where does {e} send the water? | To which place does {e} pump? # v: How much does {e} pump?
Anyone who [damages|tampers with] {e} [pays|must pay] {v:money} and [loses|forfeits] {x:np}. # v: What does someone pay who damages {e}? | How high is the fine for damage to {e}? # x: What does someone lose who tampers with {e}?
The [code|number] {c:code} on the display of {e} means that {x:reason}. # x: What does {c} mean on the display of {e}? | What is meant by code {c} on {e}? # c: Which code shows on {e} when {x}?
Error {c:code} [means|is shown when] {x:reason}; [to clear it,|in that case] {y:action}. # x: What does error {c} mean? | What causes error {c}? | What is {c}? # y: What should I do about error {c}? | How is error {c} cleared? | What helps against {c}?
Valve {c:code} is [turned|set] by {n:count} turns, valve {d:code} by {m:count}. # n: How many turns is valve {c} set? | By how many turns is {c} turned? # m: How many turns is valve {d} set? | By how many turns is {d} turned?
{who:person}, who [joined|came to] {e} in {y:year}, now leads {x:np}. # who: Who joined {e} in {y}? # y: When did {who} join {e}? | In which year did {who} come to {e}? # x: What does {who} lead? | What is {who} in charge of?
{who:person} [succeeds|takes over from] {old:person} as head of {e} on {d:date}. # who: Who becomes head of {e}? | Who is the new head of {e}? # old: Who was head of {e} before {who}? | Whom does {who} succeed at {e}? # d: When does {who} become head of {e}? | On what date does {e} get a new head?
For [questions|enquiries] about {e}, [call|phone|ring] {n:phone} or write to {m:email}. # n: Which number do I call about {e}? | What is the phone number for questions on {e}? # m: What is the e-mail address for questions on {e}? | Where can I write about {e}?
In an emergency at {e}, [dial|call] {n:phone} and [ask for|wait for] {who:role}. # n: Which number is called in an emergency at {e}? | What is the emergency number of {e}? # who: Who is asked for in an emergency at {e}?
The [sample|test] must be [kept|stored] at {v:quantity} and reach {p:place} within {t:duration}. # v: At what value must the sample for {p} be kept? # t: Within what time must the sample reach {p}? | How quickly must the sample get to {p}? # p: Where must the sample be brought?
Samples of {e} are taken {f:weekday} {p:where} and tested for {x:np}. # f: When are samples of {e} taken? # p: Where are samples of {e} taken? # x: What are samples of {e} tested for?
The [limit|maximum] for {x:np} is {v:quantity}; {e} [measured|showed] {w:quantity}. # v: What is the limit for {x}? | How much {x} is allowed? # w: What was measured at {e}? | How much did {e} show?
The [average|mean] [result|value] at {e} was {v:quantity}, compared with {w:quantity} a year earlier. # v: What was the average at {e}? | What was the mean value at {e} this year? # w: What was the average at {e} a year earlier? | What was the value at {e} the year before?
{e} [grew|increased] by {v:percent} to {w:quantity} in {y:year}. # v: By how much did {e} grow in {y}? | What was the increase of {e}? # w: To what amount did {e} grow? # y: In which year did {e} grow by {v}?
A [deposit|security] of {v:money} is [taken|charged] for {e} and [returned|paid back] after {t:duration}. # v: How much is the deposit for {e}? | What deposit is charged for {e}? # t: When is the deposit for {e} returned? | After how long is the deposit for {e} paid back?
{e} may be [hired|rented|borrowed] for at most {t:duration} at {v:money} a day. # t: For how long may {e} be hired? | What is the longest hire of {e}? # v: What does {e} cost a day? | How much is the daily hire of {e}?
The [order|contract] for {e} went to {who:organisation}, which [offered|asked for] {v:money}. # who: Who got the order for {e}? | Which company won the contract for {e}? # v: What price was offered for {e}? | How much did the winner ask for {e}?
{n:number} of {m:number} [samples|households|answers] from {e} were [valid|complete]. # n: How many from {e} were valid? # m: How many came from {e} in all? | How many were there in total from {e}?
Bills are sent {f:weekday} and are [due|payable] {t:duration} later; the [discount|reduction] for early payment is {v:percent}. # t: How long after it is sent is a bill due? | When must a bill be paid? # v: What is the discount for early payment? | How much is saved by paying early?
[Persons|Customers|Members] with {x:document} [pay|are charged] only {v:percent} of the [fee|price] for {e}. # v: What share of the price of {e} do holders of {x} pay? | How much of the fee for {e} is paid with {x}? # x: What must one have to pay less for {e}? | Who pays only {v} for {e}?
The [reduced|social] rate for {e} is [open|available] to {x:np}s and must be [requested|claimed] by {d:date}. # d: By when must the reduced rate for {e} be claimed? | What is the deadline for the social rate of {e}? # x: Who can get the reduced rate for {e}?
{x:thing} must be [worn|carried|used] in {e}; {y:thing} is [forbidden|not allowed]. # x: What must be worn in {e}? | What must be carried or used in {e}? # y: What is forbidden in {e}? | What is not allowed in {e}?
Keep {x:thing} at least {v:quantity} away from {e}. # v: How far must {x} be kept from {e}? | What distance to {e} must {x} have? # x: What must be kept away from {e}?
Before you {x:action}, [switch off|lock|isolate] {y:thing} and wait {t:duration}. # t: How long must one wait before one may {x}? # y: What must be made safe before you {x}? | What is switched off or locked before you {x}?
After {x:action} has been tried {n:count} times, {who:role} [takes over|is called]. # n: After how many tries is {who} called? # who: Who takes over after {n} tries?
{who:role} keeps records of {x:np} for {t:duration} [and then destroys them|, after which they are deleted]. # t: How long are records of {x} kept? | After how long are records of {x} destroyed? # who: Who keeps records of {x}?
Only {who:role} may {x:action}[.| without permission.] # who: Who may {x}? | Who is allowed to {x}? # x: What may only {who} do? | What is {who} alone allowed to do?
{x:thing} [belongs|goes] in {p:where}, {y:thing} in {q:where}. # p: Where does {x} belong? | Where is {x} to be put? # q: Where does {y} belong? | Where is {y} to be put?
Put {x:np}s into the {c:colour} [bin|box|bag] and {y:np}s into the {d:colour} one. # c: Into which colour do {x}s go? | What colour is the bin for {x}s? # d: Into which colour do {y}s go? | What colour is used for {y}s?
{e} [consists of|has] {n:count} {x:word}s and {m:count} {y:word}s. # n: How many {x}s does {e} have? | How many {x}s are there at {e}? # m: How many {y}s does {e} have? | How many {y}s are there at {e}?
Bus {n:count} leaves {a:place} at {t:clock} and reaches {b:place} at {u:clock}. # t: When does bus {n} leave {a}? | At what time does the bus leave {a}? # u: When does bus {n} reach {b}? | When does the bus get to {b}? # n: Which bus goes from {a} to {b}?
The tour of {e} starts at {t:clock} {p:where} and lasts {u:duration}. # t: When does the tour of {e} start? # p: Where does the tour of {e} start? | Where do visitors meet for {e}? # u: How long is the tour of {e}? | How long does the tour of {e} last?
{who:organisation} [sponsors|supports|funds] {e} with {v:money} until {d:date}. # who: Who supports {e}? | Which organisation funds {e}? # v: With how much is {e} supported? | How much money does {e} receive? # d: Until when is {e} supported? | When does the funding of {e} end?
Of the {v:money} [spent|paid] on {e}, {w:percent} [came|was paid] from {who:organisation}. # v: How much was spent on {e}? # w: What share of the cost of {e} came from {who}? # who: Who paid part of {e}? | From whom did {w} of the money for {e} come?
The new {x:np} [cuts|reduces] the [use|consumption] at {e} from {v:quantity} to {w:quantity}. # v: What was the use at {e} before? | From what level was consumption at {e} cut? # w: To what was the use at {e} reduced? | What is the consumption at {e} now? # x: What cuts the use at {e}? | What reduces the consumption at {e}?
{e} [failed|stopped] at {t:clock} on {d:date} because {x:reason}; it was [running|repaired] again after {u:duration}. # t: At what time did {e} fail? # d: On what date did {e} fail? | On which day did {e} stop? # x: Why did {e} stop? | What made {e} fail? # u: How long was {e} out of order? | After what time did {e} run again?
{n:number} [customers|households|people] in {p:place} were [without water|cut off|affected] for {t:duration}. # n: How many were affected in {p}? | How many in {p} were without supply? # t: How long was {p} affected? | How long were people in {p} without supply? # p: Which place was affected? | Where were people without supply for {t}?
The fault in {p:place} was [traced|put down] to {x:thing} and [fixed|repaired] by {who:agent}. # x: What was the cause of the fault in {p}? | To what was the fault in {p} traced? # who: Who fixed the fault in {p}? | By whom was the fault in {p} repaired?
Version {c:code} of {e} [adds|brings] {x:np} and [drops|removes] {y:np}. # x: What is new in version {c} of {e}? | What does {c} add to {e}? # y: What was removed in version {c} of {e}? | What does {c} drop from {e}?
{c:code} [replaces|supersedes] {d:code} [as of|from] {t:date}. # c: What replaces {d}? | By what is {d} superseded? # d: What does {c} replace? | What was used before {c}? # t: When does {c} replace {d}? | From when does {c} apply instead of {d}?
Passwords for {e} must have at least {n:count} characters and are changed every {t:duration}. # n: How many characters must a password for {e} have? | How long must passwords for {e} be? # t: How often are passwords for {e} changed?
Backups of {e} run at {t:clock} and are kept for {u:duration} in {p:place}. # t: When do backups of {e} run? # u: How long are backups of {e} kept? # p: Where are backups of {e} kept? | In which place are backups of {e} stored?
Expenses above {v:money} need the [signature|approval] of {who:role}. # v: Above what amount is the approval of {who} needed? | Up to what amount may money be spent without {who}? # who: Who must sign expenses above {v}? | Whose approval is needed above {v}?
Offers from at least {n:count} suppliers are [needed|required] for [orders|purchases] above {v:money}. # n: How many offers are needed for orders above {v}? | How many suppliers must be asked above {v}? # v: Above what sum are {n} offers required?
{e} [starts|begins] on {d:date} and [ends|finishes] on {f:date}; {who:person} is in charge. # d: When does {e} begin? | When does {e} start? # f: When does {e} end? | When does {e} finish? # who: Who is in charge of {e}?
The [course|training] on {x:np} takes {t:duration}, costs {v:money} and is [given|led] by {who:person}. # t: How long does the course on {x} take? # v: How much is the course on {x}? | What does the training on {x} cost? # who: Who gives the course on {x}? | Who leads the training on {x}?
To [apply for|get] {e}, send {x:document} to {m:email}. # x: What must be sent to get {e}? | What do I send to apply for {e}? # m: To which address do I apply for {e}? | Where do I send my papers for {e}?
{e} is [meant|intended] for {x:np}s, not for {y:np}s. # x: For what is {e} intended? | What is {e} meant for? # y: For what is {e} not meant?
The colour {c:colour} [marks|stands for] {x:np}, {d:colour} [marks|stands for] {y:np}. # x: What does {c} stand for? | What is marked in {c}? # y: What does {d} stand for? | What is marked in {d}? # c: Which colour marks {x}? | What colour is {x}? # d: Which colour marks {y}? | What colour is {y}?
Wash {x:thing} for {t:duration} in {y:np} before you {z:action}. # t: How long is {x} washed? | For how long must {x} be washed? # y: In what is {x} washed? # z: What can be done after {x} has been washed?
Mix {v:quantity} of {x:np} with {w:quantity} of {y:np}. # v: How much {x} is mixed in? | What amount of {x} is needed? # w: How much {y} is mixed in? | What amount of {y} is needed?
{e} was named after {who:person}, [a|the] {x:np} [from|of] {p:place}. # who: After whom was {e} named? | Whose name does {e} bear? # p: Where did {who} come from? | From which place was {who}?
{who:person} lives in {p:place} and has worked for {o:organisation} since {y:year}. # p: Where does {who} live? # o: For whom does {who} work? | Which organisation employs {who}? # y: Since when has {who} worked for {o}? | When did {who} start at {o}? # who: Who lives in {p}? | Who works for {o}?
{a:person} is older than {b:person} and [lives|works] in {p:place}. # p: Where does {a} live or work? # b: Who is younger than {a}? | Than whom is {a} older?
The winner of {e} was {a:person} with {v:number} points, ahead of {b:person} with {w:number}. # a: Who won {e}? # v: How many points did {a} get? | With how many points was {e} won? # b: Who came second in {e}? | Who was behind {a} in {e}? # w: How many points did {b} get?
Question: [May|Can] I {x:action}? Answer: {y:action} first, then ask {who:role}. # y: What must I do first if I want to {x}? # who: Whom do I ask if I want to {x}?
[Note|Remember|Important]: {e} is only [valid|usable] with {x:document}. # x: With what is {e} valid? | What makes {e} usable? | What is needed for {e} to be valid?
""".strip().splitlines()


_SLOT = re.compile(r"\{(\w+):(\w+)\}")
_CHOICE = re.compile(r"\[([^\]]*\|[^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Line:
    """A parsed line: `kinds` of its slots by name, `questions` by slot, `named` if it is about an entity {e}."""

    text: str
    kinds: dict[str, str]
    questions: dict[str, tuple[str, ...]]
    named: bool


def parse(line: str) -> Line:
    """Read one line of the notation above."""
    text, *parts = line.split(" # ")
    questions = {}
    for part in parts:
        slot, asked = part.split(": ", 1)
        questions[slot] = tuple(q.strip() for q in asked.split(" | "))
    return Line(_SLOT.sub(r"{\1}", text), dict(_SLOT.findall(text)), questions, "{e}" in text)


PARSED: list[Line] = [parse(line) for line in LINES]


def _slots(line: Line, rng: Random) -> dict[str, str]:
    """A value for each slot, none contained in another."""
    for _ in range(100):
        drawn = {slot: values.draw(kind, rng) for slot, kind in line.kinds.items()}
        texts = [text.lower() for text in drawn.values()]
        if not any(a in b for i, a in enumerate(texts) for j, b in enumerate(texts) if i != j):
            return drawn
    raise ValueError(f"slots of {line.text!r} cannot be told apart")


def _fill(template: str, slots: dict[str, str]) -> str:
    for slot, value in slots.items():
        template = template.replace(f"{{{slot}}}", value)
    return facts.capital(template)


def _choose(rng: Random, text: str) -> str:
    return _CHOICE.sub(lambda match: rng.choice(match[1].split("|")), text)


def key(number: int, about: facts.Entity) -> tuple[str, str]:
    """The key of a training line\'s fact about an entity."""
    return (about.name if PARSED[number].named else "", f"line-{number}")


def line_fact(rng: Random, about: facts.Entity, number: int | None = None) -> facts.Fact:
    """A fact of one training line, about the entity where the line names one."""
    number = rng.randrange(len(PARSED)) if number is None else number
    return fact_of(rng, about, PARSED[number], key(number, about))


def fact_of(rng: Random, about: facts.Entity, line: Line, name: tuple[str, str]) -> facts.Fact:
    """A fact of any parsed line under the given key."""
    slots = {**_slots(line, rng), "e": about.name}
    sentence = _fill(_choose(rng, line.text), slots)
    text = _choose(rng, line.text)
    asks = []
    for slot, questions in line.questions.items():
        answer = slots[slot] if slots[slot] in sentence else facts.capital(slots[slot])
        asks.append(facts.Ask(_fill(rng.choice(questions), slots), answer))
    wrong = rng.choice(list(line.questions))
    new = values.other(line.kinds[wrong], rng, slots[wrong])
    return facts.Fact(name, sentence, tuple(asks), _fill(text, {**slots, wrong: new}), _fill(text, slots))


def line_question(rng: Random, about: facts.Entity, number: int) -> str:
    """A question of a line with fresh slots: what a passage without that line does not answer."""
    line = PARSED[number]
    return _fill(rng.choice(line.questions[rng.choice(list(line.questions))]), {**_slots(line, rng), "e": about.name})
