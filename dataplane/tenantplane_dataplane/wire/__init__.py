"""Sockets, HTTP and raw ASGI: limits before anybody is authenticated, and the shape of every answer."""
