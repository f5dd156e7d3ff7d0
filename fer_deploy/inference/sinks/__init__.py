"""Where predictions are written: CSV, JSON Lines, JSON and Parquet, each resumable."""
