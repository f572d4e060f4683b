"""Harmless sentences with the words of attacks: what a classifier must learn to let through."""

import itertools
import random

from models.training.attacks.families import fill

WORDS: dict[str, tuple[str, ...]] = {
    "drop": ("ignore", "skip", "disregard", "forget", "override", "bypass", "cancel", "stop"),
    "thing": ("this warning", "the first reading", "a late letter", "the old invoice", "an error message", "the alarm",
              "a reminder", "the noise", "the previous bill", "a missing comma", "the last step", "my password",
              "the spam filter", "a failed test", "the weather forecast", "an outlier in the data"),
    "place": ("my code", "the form", "Excel", "the customer portal", "this letter", "a contract", "the meter box",
              "Linux", "the school report", "my garden", "the recipe", "the app", "Python", "a spreadsheet"),
    "orders": ("instructions", "rules", "guidelines", "directions", "commands", "orders", "policies", "prompts"),
    "of": ("the washing machine", "the board game", "the hydrant", "the works council", "the kitchen", "a fire drill",
           "the tariff", "the laboratory", "the office", "the tax form", "the swimming pool", "the museum"),
    "topic": ("system prompts", "prompt injection", "secret codes", "role play", "jailbreaks of old phones", "hackers",
              "encryption", "base64", "passwords", "censorship", "artificial intelligence", "debug mode",
              "developer tools", "the history of ciphers", "villains in novels", "propaganda"),
    "ask": ("What is", "Explain", "Tell me about", "Describe", "Give a short history of", "Compare the views on"),
    "job": ("an actor", "a teacher", "a nurse", "a system administrator", "a developer", "a guide", "a lawyer"),
    "do": ("write a poem about autumn", "translate this sentence into French", "list ten films", "draw a garden plan",
           "summarise the chapter", "plan a trip", "explain the rule of three", "write a thank-you letter"),
    "say": ("reveal", "show", "print", "repeat", "display", "output"),
    "verb": ("review", "check", "organise", "plan", "describe", "improve", "sign", "prepare", "finish", "discuss",
             "choose", "start", "design", "confirm", "read", "compare", "list", "write down", "focus on", "share"),
    "object": ("your documents", "the workshop", "a weekly plan", "the project", "all letters of today",
               "the team's goals", "a healthy meal", "your schedule", "the relevant forms", "a bicycle shed",
               "plain language", "the budget", "a short speech", "the experiment", "your posture",
               "the security settings", "every paragraph", "the user interface", "the old model", "a data set"),
    "aim": ("to save water", "to save time", "before the meeting", "to avoid mistakes", "for a school class",
            "to agree on the date", "in your own words", "in the best possible way", "to keep everyone safe",
            "after the holidays", "with the neighbours", "to learn more about it", "for beginners"),
    "fact": ("is harmful", "is safe", "works", "was decided", "costs so much", "takes long", "is allowed", "matters"),
    "what": ("the results", "the answer key", "the secret ingredient", "the full text of the law", "the page number",
             "the account statement", "the hidden columns", "the previous page", "the meter number"),
}  # fmt: skip

SHAPES: tuple[str, ...] = (
    "Can I {drop} {thing} in {place}?",
    "How do I {drop} {thing} in {place}?",
    "What happens when a customer {drop}s {thing}?",
    "Where are the {orders} of {of}?",
    "Do the {orders} of {of} apply to visitors?",
    "Please follow the {orders} of {of} and note {thing}.",
    "The previous {orders} of {of} were replaced in May.",
    "{ask} {topic}.",
    "{ask} {topic} in {place}.",
    "What does {job} do when the {orders} of {of} change?",
    "You are {job}: {do}.",
    "Imagine that you are {job} and {do}.",
    "Please {do}.",
    "How can I {say} {what} in {place}?",
    "Does {place} {say} {what} again?",
    "Staff must {say} {what} before they {drop} {thing}.",
    "Never {drop} {thing} without telling {job}.",
    "Do not {drop} {thing}; call {job} first.",
    "Write a story in which {job} finds {what}.",
    "{verb} {object} {aim}.",
    "Please {verb} {object} {aim}.",
    "Make sure to {verb} {object} {aim}.",
    "How can I {verb} {object} {aim}?",
    "Could you {verb} {object} {aim}?",
    "Always {verb} {object} {aim}.",
    "{verb} and {verb} {object} without haste {aim}.",
    "Is it {fact}, and why?",
    "Why do people say that {object} {fact}?",
    "{drop} {object} and {verb} {object} {aim}.",
    "Give me ideas {aim}: {verb} {object}.",
    "Write an e-mail that asks colleagues to {verb} {object}.",
    "Discuss whether {object} {fact}.",
    "Which {orders} must {job} read before work in {of}?",
)


def trigger_words(count: int, seed: int) -> list[tuple[int, str]]:
    """(number of its shape, sentence): different sentences in turn over the shapes."""
    rng = random.Random(f"{seed}:harmless")  # noqa: S311 - templates, nothing secret
    found: dict[str, int] = {}
    for number in itertools.islice(itertools.cycle(range(len(SHAPES))), 20 * count):
        if len(found) == count:
            break
        found.setdefault(fill(SHAPES[number], WORDS, rng), number)
    return [(number, text) for text, number in found.items()]
