"""Backup and restoration of a whole installation, composed or embedded, in one archive."""
