"""What operators run beside the server. Each module is one command: `TEXT`, `add_arguments`, `run`.

`cli` owns the settings, their flags and the exit code for a refused start.
"""
