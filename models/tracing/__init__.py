"""Traces on their way out: from the records to MLflow or another OpenTelemetry collector."""
