"""The mock collector beside a real receiver: the same requests to both, and what they answer.

`python -m tests.differential` runs it in full and prints where the two differ, by kind.
"""
