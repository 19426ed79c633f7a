"""Reading and checking the records of runs, and rebuilding their datasets."""
