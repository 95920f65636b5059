"""Show tokens, tables and figures as text, HTML and images."""
