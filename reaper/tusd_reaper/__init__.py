"""What runs beside the uploads: sweeps that leave nothing behind, and the worker of the outbox."""
