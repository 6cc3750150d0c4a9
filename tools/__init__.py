"""Programs for people who work on the driver: nothing here runs in it."""
