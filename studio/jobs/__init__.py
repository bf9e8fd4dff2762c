"""The queue and the running of jobs: fairness, dispatcher, event log, progress, saving."""
