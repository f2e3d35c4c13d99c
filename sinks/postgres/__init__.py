"""The Postgres sink: tables for analysts, written with the position in one transaction."""
