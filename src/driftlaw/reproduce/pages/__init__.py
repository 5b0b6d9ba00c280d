"""The pages and figures of a reproduction."""
