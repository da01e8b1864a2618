"""What runs a method inside Dassl: configuration, loading, evaluation, several GPUs, checkpoints, records."""
