"""Takes over unfinished uploads that another server began."""
