"""The engine behind the buffer: one SQLite file, one thread that writes, one that reads."""
