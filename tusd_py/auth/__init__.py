"""Built-in answers to "who is this, and what may they do": tokens, signed URLs, forward-auth."""
