"""The synthetic corpus of the base model: stories, documents, sums, copying and plain chat."""
