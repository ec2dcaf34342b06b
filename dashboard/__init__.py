"""The dashboard: models, predictions, explanations, data checks and reports in a browser; nothing runs at import."""
