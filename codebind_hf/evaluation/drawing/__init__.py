"""The pictures of a report, a file a question."""
