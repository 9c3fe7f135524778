"""What somebody asks of the running relay, beside spans: each file a topic, over buffer and fleet.

The daemon builds them; `admin` offers them under `/api/`, each by a protocol of its own.
"""
