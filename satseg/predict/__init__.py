"""What `satseg.predict` asks and answers: scenes from files and folders, one after the other, and what came of each."""
