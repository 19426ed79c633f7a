"""Pairing of images and masks by the names of folders and files."""
