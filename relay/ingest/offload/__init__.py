"""Decodes bodies that would hold up the event loop, in a process of its own that may die.

A body of many megabytes, or one that unzips to a million empty messages, takes seconds and
gigabytes to decode. A thread would not help, since the decoders hold the interpreter's lock. So
one warm process does it, with limits on its memory and its time, and nothing else: it listens
nowhere, holds no lock and no secret, sees no file of the buffer, and ends when its socket closes.

::

    event loop           thread                 offload process
    Offload.prepare ────▶ one job at a time ───▶ Prepare: check → enrich → cut
        ▲                OffloadProcess          RLIMIT_AS, an alarm, niced
        └──── future ◀── pieces … done ◀─────── or dead: 413, and a new one is spawned

- `offload`: the face towards the loop; patience, a second try, statistics
- `job_queue`: whose job is next
- `process`: the process as its parent has it: spawned, asked, ended
- `wire`: messages between the two
- `child`: what runs in the process (`__main__` starts it)
"""
