"""Which span a refusal is about: found by halving, with evidence that others pass."""
