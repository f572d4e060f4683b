"""Starter model: generated reading tasks, tokenizer, training and report."""
