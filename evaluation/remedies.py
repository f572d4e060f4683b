"""What can be done about a release, one kind a remedy: the deed, how it is done here, what would speak against it."""

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What a recommendation asks for."""

    MEASURE = "measure"
    GUARDS = "guards"
    REPAIR = "repair"
    RETRIEVAL = "retrieval"
    GROUNDING = "grounding"
    PROMPT = "prompt"
    RAG = "rag"
    ROWS = "training-rows"
    SFT = "sft"
    DPO = "dpo"
    LARGER = "larger-model"
    BITS = "more-bits"
    SERVING = "serving"
    ROUTE = "route"
    DISTIL = "distil"
    KEEP = "keep"


class Remedy(NamedTuple):
    """How a kind reads."""

    do: str
    how: tuple[str, ...]
    """Commands and policy fields, the first one first."""
    changes: str
    """What would change the advice."""


REMEDIES: dict[Kind, Remedy] = {
    Kind.MEASURE: Remedy(
        "Measure first",
        ("sluice run nightly",),
        "Figures: without them every advice is an opinion.",
    ),
    Kind.GUARDS: Remedy(
        "Add safety controls before anything else",
        (
            "policy `guards`: passage_injection: drop, personal_data: refuse, personal_patterns, leak_tokens",
            "the failing cases belong into `cases` with `forbidden`, then: sluice run release",
        ),
        "No safety rule of the gate fails any more. Fine-tuning does not replace a guard.",
    ),
    Kind.REPAIR: Remedy(
        "Mend the parts that fail",
        ("sluice status", "sluice explain TRACE of an answer with `error`", "policy `engine`, `answering.generation`"),
        "The share of requests in which a part failed is within the gate's rule.",
    ),
    Kind.RETRIEVAL: Remedy(
        "Fix retrieval: the model was not shown what it needed",
        (
            "sluice run tune (chunking, weights, reranker, pattern; proved on the gate cases)",
            "policy `answering.context`: passages, evidence_sentences, token_budget",
            "sluice run rerank; policy `embedding`, `answering.search.filters`",
        ),
        "The evidence is shown and the answers are unsupported all the same: then grounding, not retrieval.",
    ),
    Kind.GROUNDING: Remedy(
        "Tighten the grounding: the evidence was shown and not used",
        (
            "policy `guards`: uncited: refuse, grounding_min_share",
            "policy `answering.context`: order, passages (less beside the evidence), evidence_sentences",
            "the prompt in models/prompts.py: answer from the sources alone, with their numbers",
        ),
        "The evidence turns out not to have been shown: then retrieval first.",
    ),
    Kind.PROMPT: Remedy(
        "Try another prompt: the cheapest change there is",
        ("models/prompts.py: instructions, format, examples", "sluice run release"),
        "A prompt was tried and its release measured: then the next step of prompt, RAG, fine-tuning.",
    ),
    Kind.RAG: Remedy(
        "Give the model documents to answer from",
        ("policy `corpus`, `index`, `answering`", "sluice run index"),
        "Knowledge is not what is missing: a pattern, a style or a format is learnt by fine-tuning.",
    ),
    Kind.ROWS: Remedy(
        "Collect training rows first",
        ("policy `training_data`: corpus_questions, case_orders", "corrections and ratings from production"),
        "Enough rows are there.",
    ),
    Kind.SFT: Remedy(
        "Fine-tune on the questions that go wrong",
        ("sluice run finetune, with rows of that kind", "sluice run release"),
        "The wrong answers turn out to be spread, or to lack their evidence.",
    ),
    Kind.DPO: Remedy(
        "Optimize preferences: right answers are disliked for how they are said",
        ("preference pairs (chosen, rejected) into `training_data`", "sluice run finetune with the preference method"),
        "The disliked answers turn out to be wrong: then they need facts, not style.",
    ),
    Kind.LARGER: Remedy(
        "Take a larger base model, or train all of its weights",
        ("policy `model.base`; `training.method: full` with ten thousand rows and more", "sluice plan-memory"),
        "More rows of the failing kind close the gap.",
    ),
    Kind.BITS: Remedy(
        "Serve with more bits, or calibrate better",
        (
            "policy `quantization`: precisions, group_size (smaller), calibration_rows (more), smoothing",
            "sluice run quantize",
        ),
        "The bound of the loss against bf16 lies within the margin.",
    ),
    Kind.SERVING: Remedy(
        "Make serving and search faster: the model is not where the time goes",
        (
            "policy `engine`: max_num_seqs, kv_cache_gib, enforce_eager",
            "policy `index`, `answering.search`",
            "sluice run benchmark",
        ),
        "Most of an answer's time is spent in writing it: then a smaller model, or fewer bits.",
    ),
    Kind.ROUTE: Remedy(
        "Send the simple questions to the small model",
        ("sluice run difficulty", "then routing.use: true, where it says from which probability on"),
        "The classifier's threshold is not confirmed on the gate cases.",
    ),
    Kind.DISTIL: Remedy(
        "Distil into a smaller model",
        ("sluice run distill", "sluice run quantize (fewer bits may be enough)"),
        "Fewer bits or routing bring latency and cost within the rules.",
    ),
    Kind.KEEP: Remedy(
        "Keep what is live",
        ("sluice run nightly (as scheduled)",),
        "A rule of the gate fails, or its stricter profile is what you need to meet.",
    ),
}
