"""Flows: retries, schedules and pages around `mrtai`; no physics and no identity here."""
