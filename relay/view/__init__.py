"""What people look at: summaries, searches, rates and events, from what is kept and counted.

Nothing here is on the way of an item. What comes in is read from the buffer afterwards, decoded in
a worker thread and in steps that end after so many rows, bytes or milliseconds.
"""
