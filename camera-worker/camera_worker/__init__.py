"""The camera worker: watches cameras, scores their frames through the API and raises alarms with evidence."""
