"""The page: what a browser shows of the relay, made from what the admin API responds."""
