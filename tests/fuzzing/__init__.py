"""The attacks of `fuzz.py`: a strategy that generates calls, and a judge of what came of one, for each."""
