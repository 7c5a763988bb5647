"""Files to load: each format says which columns it holds, and yields a DuckDB query over them with its complaints."""
