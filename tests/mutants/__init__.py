"""Changes one thing at a time in what checks, keeps and delivers, and asks whether a test notices.

A test run that passes says little where nothing would have failed. Here a random sample of small
changes (`change.py`) is made, each in a copy of the project, and the tests of its room are run
(`rooms.py`). What survives is printed as a diff: it wants a test, or an entry in `equivalents.toml`
with the reason why nobody could tell the difference.
"""
