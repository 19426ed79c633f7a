"""The page of the app: layout, events, maps and downloads."""
