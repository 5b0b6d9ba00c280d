"""What an audit comes to: looks at every generation, one verdict, and gates for pipelines."""
