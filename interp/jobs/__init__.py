"""Submitting questions and executing them: inline, or by a worker that a supervisor looks after."""
