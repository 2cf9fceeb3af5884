"""Self-contained HTML pages out of tables, charts, pictures and notes."""
