"""`lorikeet compare`: the same prompts through the base model and adapters, side by side."""
