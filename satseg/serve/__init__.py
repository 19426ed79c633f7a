"""A model behind a server: the app's page, its uploads, and the queue of what is computed."""
