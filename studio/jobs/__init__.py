"""The queue and what becomes of a job: fairness, dispatcher, event log, progress, saving."""
