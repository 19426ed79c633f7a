"""The API: what programs ask over HTTP."""
