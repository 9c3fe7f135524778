"""The rules of the way to an upstream: settings go in, what a connection needs comes out.

Delivery and the connection test both go by them, so that what the test says holds for what
delivery does: which proxy is used (`routes`), who is trusted (`trust`), what stands in the head
of a request and what of an answer may be shown (`heads`). None of them opens a connection.
"""
