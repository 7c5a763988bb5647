"""GoogleSQL to DuckDB: parse, bind names to the catalogue, give functions their BigQuery meaning, write DuckDB's SQL."""
