"""The wire to an upstream: connect, exchange one request for one response, explain what failed.

Delivery and the connection test both go through here, so that what the test says holds for what
delivery does, in the same words.

- `routes`: which way, from the settings of a destination, by which of the `proxies`;
- `tls`: who is trusted on it;
- `dial`: name → TCP → proxy → TLS, which is `tls_wire`;
- `connection`: bytes out and in, one deadline, and how far an exchange got;
- `response_reader`: a response off the wire; `response_head`: its head, put right where it breaks
  the rules of HTTP; `response`: what it says;
- `exchange`: one request and its response, over a connection that is kept;
- `explain`: an exception → cause and remedy; `explain_response`: a response that is no success;
- `outcomes`: what that means for a batch.
"""
