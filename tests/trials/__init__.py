"""Trials of "nothing acknowledged is lost": each a function of a seed and a length, its row out.

`make test` runs short forms of them (tests/integration/test_trials.py), `make soak` long ones
(tests/soak). The oracle is one for all: `rows.Judge`.
"""
