"""The practitioner's verbs on their own data: sketch and audit."""
