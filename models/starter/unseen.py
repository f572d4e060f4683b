"""Sentences and questions that no training run has seen: report.py measures on them how far reading carries over.

Same notation as models.starter.sentences. Do not add them there.
"""

# ruff: noqa: E501 - a template and its questions stand on one line
from __future__ import annotations

from models.starter.sentences import Line, parse

LINES: list[str] = """
Subscribers of {e} who [quit|leave] early owe a settlement of {v:money}, payable to {who:role}. # v: What do subscribers of {e} owe if they leave early? | How big is the settlement for quitting {e} early? # who: To whom is the settlement for {e} payable?
Lorries heavier than {v:quantity} may not cross {e}; they [take the detour|go round] through {p:place}. # v: How heavy may a lorry be on {e}? | From what weight on is crossing {e} banned? # p: Through which place do heavy lorries go instead of {e}?
The recipe of {e} calls for {v:quantity} of {x:np}, stirred for {t:duration}. # v: How much {x} goes into {e}? # t: For how long is {e} stirred?
{who:person} painted {e} in {y:year} while staying {p:where}. # who: Who is the painter of {e}? # y: When was {e} painted? # p: Where did {who} stay when painting {e}?
Spectators of {e} must be seated by {t:clock}, otherwise {x:np} is closed. # t: By what time must spectators of {e} be seated? # x: What is closed to latecomers at {e}?
The lifeguard on duty at {e} [swaps|changes over] every {t:duration}. # t: How often does the lifeguard at {e} change? | After what time does the lifeguard of {e} swap?
A fishing licence for {e} can be bought from {who:role} for {v:money}. # v: What is the price of a fishing licence for {e}? # who: From whom can I buy a fishing licence for {e}? | Who sells fishing licences for {e}?
Divers found {x:thing} at the bottom of {e} on {d:date}. # x: What did divers find at the bottom of {e}? | What was found by divers in {e}? # d: When did divers search the bottom of {e}?
The clock of {e} runs {t:duration} [late|slow] and is set by {who:person}. # t: How late is the clock of {e}? # who: Who sets the clock of {e}?
Snow on {e} is cleared by {who:organisation}, [normally|usually] before {t:clock}. # who: Who clears the snow on {e}? # t: Before what time is {e} usually cleared of snow?
The strike at {e} ended after {t:duration}, when the firm [granted|conceded] {v:percent} more pay. # t: How long was the strike at {e}? # v: How much more pay did the strikers at {e} get?
A leak of {v:quantity} was spotted {p:where} by a neighbour of {e}. # v: How large was the leak near {e}? # p: Where was the leak near {e} spotted?
Guests of {e} find towels {p:where} and leave keys with {who:role}. # p: Where are the towels of {e}? # who: With whom do guests of {e} leave their keys?
The jury gave {e} {n:count} stars and praised {x:thing}. # n: How many stars did {e} get? # x: What did the jury praise about {e}?
The archive keeps the plans of {e} under {c:code}; copies cost {v:money}. # c: Under which mark are the plans of {e} kept? # v: How much is a copy of the plans of {e}?
Bees were moved from {e} to {p:place} because {x:reason}. # p: Where were the bees of {e} taken? # x: Why were the bees taken away from {e}?
The loudspeaker of {e} repeats the message every {t:duration} until {who:role} turns it off. # t: How often does the loudspeaker of {e} repeat its message? # who: Who turns off the loudspeaker of {e}?
Skaters pay {v:money} at {e} and get {x:np} for free. # v: What do skaters pay at {e}? # x: What do skaters get for free at {e}?
The ferry to {e} sails on {d:weekday} and takes {t:duration}. # d: When does the ferry to {e} sail? # t: How long is the crossing to {e}?
{n:count} volunteers from {p:place} planted trees around {e}. # n: How many volunteers planted trees around {e}? # p: Where did the volunteers at {e} come from?
The apprentice at {e} is paid {v:money} and looked after by {who:person}. # v: What is the apprentice at {e} paid? # who: Who looks after the apprentice at {e}?
The bell of {e} was cast from {m:material} in {y:year}. # m: What was the bell of {e} cast from? # y: When was the bell of {e} cast?
Parcels for {e} may be dropped at {p:place} up to {t:clock}. # p: Where may parcels for {e} be dropped? # t: Until what time may parcels for {e} be dropped?
Inside {e} the lamps glow {c:colour} when {x:reason}. # c: In what colour do the lamps of {e} glow? # x: When do the lamps inside {e} glow {c}?
""".strip().splitlines()

PARSED: list[Line] = [parse(line) for line in LINES]
