"""The practitioner's verb for the future: how much fresh data, when."""
