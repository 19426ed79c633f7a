"""Serving models over HTTP: the API, the app's page, uploads and the job queue."""
