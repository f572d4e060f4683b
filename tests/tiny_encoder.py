"""A small encoder on disk, for tests that train or load a cross-encoder."""

from pathlib import Path

from indexes.weights import embedded_model


def save_tiny(folder: Path, labels: int = 1) -> None:
    """A BERT of one layer and 32 numbers a token with the vocabulary of MiniLM and random weights."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, initializer_range=0.2
    )
    config.num_labels = labels
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded_model()).save_pretrained(folder)
