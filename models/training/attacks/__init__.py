"""Attacks and harmless texts that the recipe of the injection classifier makes, by family."""
