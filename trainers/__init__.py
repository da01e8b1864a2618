"""Every trainer registers with Dassl when it is imported here."""
