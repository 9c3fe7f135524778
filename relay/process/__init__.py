"""What is done to a request before it is kept: check, enrich, cut into pieces."""
