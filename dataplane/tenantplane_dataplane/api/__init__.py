"""Assistants over HTTP: ``POST /chat``, ``assistant/<name>`` on ``/v1/chat/completions``, and engine Extractive."""
