"""Programs that measure keypipe beside what people would otherwise use; each prints a table and a ratio."""
