"""HTTP/1.1 with limits: sockets that are ours, uvicorn's parser, our life."""
