"""Files to the tables and back; nothing else knows a file format."""
